//! What a request means, and the answer's head.
//!
//! Owns: routes, to whom and from where a request is, which requests may change something, the headers that every answer has.
//! Does not own: HTTP itself.

use std::net::{IpAddr, SocketAddr};

use super::form::{Form, encode};

/// Nothing but our own style, no script at all, no frames, forms to us only.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// What is left of a request once HTTP is done with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'r> {
    /// GET or HEAD.
    pub is_read: bool,
    /// POST.
    pub is_post: bool,
    /// Without the query.
    pub path: &'r str,
    /// Behind `?`.
    pub query: &'r str,
    /// `Cookie`
    pub cookie: Option<&'r str>,
    /// `Host`
    pub host: Option<&'r str>,
    /// `Origin`
    pub origin: Option<&'r str>,
    /// `Sec-Fetch-Site`
    pub fetch_site: Option<&'r str>,
    /// `X-Forwarded-For`, the last of them.
    pub forwarded_for: Option<&'r str>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The style sheet: for everybody.
    Style,
    /// The form to log in with.
    LoginForm,
    /// Its answer.
    Login,
    /// The end of a session.
    Logout,
    /// The table, filtered.
    Transactions(Form),
    /// Sums, filtered.
    Sums(Form),
    /// One transaction.
    Detail(Form),
    /// A mark on one.
    Mark,
    /// The whole ledger is verified anew.
    Verify,
    /// Nothing here.
    Unknown,
    /// Something is, but not for this method.
    OtherMethod,
}

impl Route {
    /// Of a request.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        let form = || Form::parse(request.query);
        let name = request.path.strip_prefix('/').unwrap_or(request.path);
        let (route, is_change) = match name {
            "style.css" => (Route::Style, false),
            "" => (Route::Transactions(form()), false),
            "sums" => (Route::Sums(form()), false),
            "transaction" => (Route::Detail(form()), false),
            "login" if request.is_post => (Route::Login, true),
            "login" => (Route::LoginForm, false),
            "logout" => (Route::Logout, true),
            "mark" => (Route::Mark, true),
            "verify" => (Route::Verify, true),
            _ => return Route::Unknown,
        };
        if (is_change && request.is_post) || (!is_change && request.is_read) { route } else { Route::OtherMethod }
    }
}

/// From which pages something may be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// What browsers see where a proxy stands in front: `https://review.example.com`; without it what `Host` says.
    pub configured: Option<String>,
}

impl Origins {
    /// Whether browsers reach us over TLS, so that the cookie never needs to go without.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.configured.as_deref().is_some_and(|origin| origin.starts_with("https://"))
    }

    /// Whether a request is to us by a name that only we can have. Without a configured origin browsers are on this machine, or at the
    /// end of a tunnel: another name in `Host` is one that somebody has made lead here (DNS rebinding), to work with the page from a
    /// page of theirs. Where a proxy stands in front, `Host` is as that writes it.
    #[must_use]
    pub fn is_ours(&self, request: &Request<'_>) -> bool {
        if self.configured.is_some() {
            return true;
        }
        let Some(host) = request.host else { return false };
        let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name);
        name.eq_ignore_ascii_case("localhost") || address_of(name).is_some()
    }

    /// Where a client is: its own address, or what the proxy in front says, whose own everybody has otherwise.
    #[must_use]
    pub fn place_of(&self, request: &Request<'_>, connection: SocketAddr) -> IpAddr {
        let told = self.configured.as_ref().and(request.forwarded_for);
        // What a client has sent of that stands in front of what the proxy has added.
        let told = told.and_then(|all| address_of(all.rsplit(',').next().unwrap_or_default().trim()));
        told.unwrap_or_else(|| connection.ip())
    }

    /// Whether a change was asked for by a page of ours, as far as the browser tells: another site's page must not even
    /// log somebody in.
    #[must_use]
    pub fn admits(&self, request: &Request<'_>) -> bool {
        if request.fetch_site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return false;
        }
        let Some(origin) = request.origin else { return true };
        match &self.configured {
            Some(configured) => origin == configured,
            None => {
                let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
                rest.is_some() && rest == request.host
            }
        }
    }
}

/// An address with a port or without, of version 6 in brackets or not.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Beside those that every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// What kind of text the body is.
    pub kind: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Headers of every answer: nothing is kept anywhere, nothing loaded from anywhere, nobody frames it.
    pub const HEADERS: [(&'static str, &'static str); 8] = [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        // Not `no-referrer`: that makes browsers send `Origin: null` with our own forms.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
        ("cache-control", "no-store"),
    ];

    /// A page.
    #[must_use]
    pub const fn page(status: u16, body: String) -> Self {
        Self { status, headers: Vec::new(), kind: "text/html; charset=utf-8", body }
    }

    /// The same with a cookie.
    #[must_use]
    pub fn with_cookie(mut self, cookie: String) -> Self {
        self.headers.push(("set-cookie", cookie));
        self
    }
}

/// To another page: relative, so that it holds behind a proxy, whatever prefix that takes away.
#[must_use]
pub fn redirect(page: &'static str, query: &[(&str, &str)]) -> Answer {
    let fields: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let behind = if fields.is_empty() { String::new() } else { format!("?{}", fields.join("&")) };
    Answer {
        status: 303,
        headers: vec![("location", format!("{page}{behind}"))],
        kind: "text/plain; charset=utf-8",
        body: String::new(),
    }
}

/// The style sheet.
#[must_use]
pub fn style() -> Answer {
    let body = include_str!("style.css").to_owned();
    Answer { status: 200, headers: Vec::new(), kind: "text/css; charset=utf-8", body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Request<'_> {
        Request { is_read: true, path, ..Request::default() }
    }

    #[test]
    fn changes_are_posts_and_pages_are_not() {
        for (path, read, post) in [
            ("/", Route::Transactions(Form::default()), Route::OtherMethod),
            ("/login", Route::LoginForm, Route::Login),
            ("/logout", Route::OtherMethod, Route::Logout),
            ("/mark", Route::OtherMethod, Route::Mark),
            ("/verify", Route::OtherMethod, Route::Verify),
            ("/style.css", Route::Style, Route::OtherMethod),
            ("/../etc/passwd", Route::Unknown, Route::Unknown),
            ("//", Route::Unknown, Route::Unknown),
        ] {
            assert_eq!(Route::of(&get(path)), read, "{path}");
            assert_eq!(Route::of(&Request { is_read: false, is_post: true, ..get(path) }), post, "{path}");
            let other = Route::of(&Request { is_read: false, ..get(path) });
            assert!(matches!(other, Route::OtherMethod | Route::Unknown), "{path}: {other:?}");
        }
    }

    #[test]
    fn other_sites_change_nothing() {
        let own = Origins::default();
        let behind = Origins { configured: Some("https://review.example.com".into()) };
        let host = Some("127.0.0.1:9");
        for (origin, fetch_site, is_own, is_behind) in [
            (None, None, true, true),
            (Some("http://127.0.0.1:9"), Some("same-origin"), true, false),
            (Some("https://review.example.com"), Some("same-origin"), false, true),
            (Some("http://evil.example"), None, false, false),
            (Some("null"), None, false, false),
            (Some("http://127.0.0.1:9.evil.example"), None, false, false),
            (None, Some("cross-site"), false, false),
            (Some("https://review.example.com"), Some("same-site"), false, false),
        ] {
            let request = Request { host, origin, fetch_site, ..Request::default() };
            assert_eq!(
                (own.admits(&request), behind.admits(&request)),
                (is_own, is_behind),
                "{origin:?} {fetch_site:?}"
            );
        }
        assert!(behind.is_secure() && !own.is_secure());
    }

    #[test]
    fn another_name_that_leads_here_is_not_ours() {
        let own = Origins::default();
        for (host, is_ours) in [
            (Some("127.0.0.1:9128"), true),
            (Some("127.0.0.1"), true),
            (Some("[::1]:9128"), true),
            (Some("[::1]"), true),
            (Some("LocalHost:80"), true),
            (Some("evil.example:9128"), false),
            (Some("127.0.0.1.evil.example"), false),
            (Some("localhost.evil.example:9128"), false),
            (Some("127.0.0.1:9128:evil"), false),
            (Some("localhost:"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(own.is_ours(&Request { host, ..Request::default() }), is_ours, "{host:?}");
        }
        let behind = Origins { configured: Some("https://review.example.com".into()) };
        assert!(behind.is_ours(&Request { host: Some("upstream:9128"), ..Request::default() }));
    }

    #[test]
    fn only_a_proxy_in_front_says_where_a_client_is() {
        let connection = "127.0.0.1:5".parse().unwrap();
        let behind = Origins { configured: Some("https://review.example.com".into()) };
        for (forwarded_for, wanted) in [
            (None, "127.0.0.1"),
            (Some("10.0.0.7"), "10.0.0.7"),
            (Some("1.2.3.4, 10.0.0.7"), "10.0.0.7"),
            (Some("10.0.0.7:443"), "10.0.0.7"),
            (Some("[2001:db8::1]:443"), "2001:db8::1"),
            (Some("2001:db8::1"), "2001:db8::1"),
            (Some("10.0.0.7, unknown"), "127.0.0.1"),
            (Some(""), "127.0.0.1"),
        ] {
            let request = Request { forwarded_for, ..Request::default() };
            assert_eq!(behind.place_of(&request, connection).to_string(), wanted, "{forwarded_for:?}");
            assert_eq!(Origins::default().place_of(&request, connection), connection.ip());
        }
    }

    #[test]
    fn a_redirect_cannot_be_steered() {
        let answer = redirect("transaction", &[("id", "a\r\nSet-Cookie: x&y")]);
        assert_eq!(answer.headers, [("location", "transaction?id=a%0D%0ASet-Cookie%3A%20x%26y".to_owned())]);
    }
}
