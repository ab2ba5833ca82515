//! A request's head, as the review page understands it: what could be understood in two ways is no request.
//!
//! Owns: which headers there may be one of. Does not own: what they mean (`review`).

use hyper::Method;
use hyper::header::{COOKIE, HOST, HeaderName, ORIGIN};
use hyper::http::request::Parts;

use crate::review::Request;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// `None`: a header that says who or whence is there twice or is no text, or the address that is asked for is another host's than
/// `Host`. A proxy in front may have believed the other of them.
pub fn request_of(head: &Parts) -> Option<Request<'_>> {
    let Parts { headers, uri, method, .. } = head;
    let one = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Some(None),
            (Some(value), None) => value.to_str().ok().map(Some),
            (Some(_), Some(_)) => None,
        }
    };
    let host = one(HOST)?;
    let is_others = uri.authority().is_some_and(|authority| Some(authority.as_str()) != host);
    if is_others {
        return None;
    }
    Some(Request {
        is_read: matches!(*method, Method::GET | Method::HEAD),
        is_post: *method == Method::POST,
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        cookie: one(COOKIE)?,
        host,
        origin: one(ORIGIN)?,
        fetch_site: one(FETCH_SITE)?,
        // Each proxy may have added one.
        forwarded_for: headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str, headers: &[(&str, &[u8])]) -> Parts {
        let mut request = hyper::Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_says_two_things_is_no_request() {
        let host: (&str, &[u8]) = ("host", b"127.0.0.1:9");
        for (target, more, is_one) in [
            ("/", vec![], true),
            ("http://127.0.0.1:9/", vec![], true),
            ("http://evil.example/", vec![], false),
            ("/", vec![host], false),
            ("/", vec![("cookie", b"a=b".as_slice())], true),
            ("/", vec![("cookie", b"a=b".as_slice()), ("cookie", b"a=c")], false),
            ("/", vec![("origin", b"http://a".as_slice()), ("origin", b"http://b")], false),
            ("/", vec![("origin", b"http://\xff".as_slice())], false),
            ("/", vec![("sec-fetch-site", b"same-origin".as_slice()), ("sec-fetch-site", b"cross-site")], false),
        ] {
            let headers = [vec![host], more].concat();
            assert_eq!(request_of(&parts(target, &headers)).is_some(), is_one, "{target} {headers:?}");
        }
        let told = parts("/", &[("x-forwarded-for", b"1.1.1.1"), ("x-forwarded-for", b"2.2.2.2, 3.3.3.3")]);
        assert_eq!(request_of(&told).unwrap().forwarded_for, Some("2.2.2.2, 3.3.3.3"));
    }
}
