//! The review page over HTTP: a listener of its own, whose every answer but the login needs a session.
//!
//! Owns: limits, bodies, what a request does: read, mark, log in. Does not own: pages and sessions
//! (`review`), the socket (`http_socket`), heads of requests (`head`), the ledger's files (`reader`), the record of a mark (`ledger`).

mod head;
mod reader;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use uuid::Uuid;

use self::reader::Reader;
use super::build;
use super::http_socket::{HttpLimits, HttpSocket};
use super::listener::ListenFault;
use super::proxy::Proxy;
use crate::audit::{Judgement, Mark, parse_note};
use crate::review::{
    Answer, Form, Gate, Origins, Proven, Request, Route, Sight, Visit, detail_page, failure_page, login_page, redirect,
    style, sums_page, transactions_page, unmarked_page,
};

/// A handful of reviewers with a browser each, which open six connections.
const CONNECTIONS_MAX: usize = 64;

/// A request's head: cookies and a filter's address.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A form: a note of 500 characters, each up to twelve bytes long as it is sent.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// A head or a body that takes longer is nobody's who wants an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection is closed after so long, whatever it does.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

/// How many requests read files at the same time; others wait for them.
const READERS_MAX: usize = 4;

/// How many passwords are checked at the same time: each takes some milliseconds of a processor that serves clients, too.
const CHECKS_MAX: usize = 2;

/// A login that fails is answered so late at the earliest, longer than a check takes: the time does not tell whether there was
/// one, or of whom.
const FAILED_AFTER: Duration = Duration::from_millis(500);

const LOGIN_FAILED: &str = "Name or password is wrong, or this name was tried too often lately: then wait ten seconds.";

/// A socket that is listened on.
pub struct ReviewListener(HttpSocket);

impl ReviewListener {
    /// Listens. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn bind(address: SocketAddr) -> Result<Self, ListenFault> {
        let (connections_max, head_bytes_max, head_timeout) = (CONNECTIONS_MAX, HEAD_BYTES_MAX, READ_TIMEOUT);
        let limits =
            HttpLimits { connections_max, head_bytes_max, head_timeout, connection_timeout: CONNECTION_TIMEOUT };
        HttpSocket::bind(address, limits).map(Self)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address()
    }

    /// If dropped: nobody is accepted any more; who was accepted is answered.
    ///
    /// Answers until dropped.
    pub async fn serve(self, proxy: Arc<Proxy>) {
        let Some(desk) = Desk::new(proxy).map(Arc::new) else { return };
        let answer = move |request: hyper::Request<Incoming>, address: SocketAddr| {
            let desk = Arc::clone(&desk);
            async move { as_response(desk.answer(request, address).await) }
        };
        self.0.serve("review", answer).await;
    }
}

fn as_response(answer: Answer) -> Response<Full<Bytes>> {
    let Answer { status, headers, kind, body } = answer;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let all = Answer::HEADERS.into_iter().map(|(name, value)| (name, value.to_owned())).chain(headers);
    for (name, value) in all.chain([("content-type", kind.to_owned())]) {
        match HeaderValue::from_str(&value) {
            Ok(value) => drop(response.headers_mut().append(HeaderName::from_static(name), value)),
            Err(error) => tracing::error!(name, %error, "a header of the review page cannot be sent"),
        }
    }
    response
}

/// What all requests share.
struct Desk {
    proxy: Arc<Proxy>,
    gate: Mutex<GateOf>,
    reader: Arc<Mutex<Reader>>,
    readers: Arc<Semaphore>,
    checks: Semaphore,
    path: std::path::PathBuf,
}

/// The gate, and the configuration that its reviewers are of.
struct GateOf {
    gate: Gate,
    generation: u64,
}

/// A form that was sent by somebody who is logged in, from a page of theirs.
struct Sent {
    visit: Visit,
    form: Form,
}

impl Desk {
    fn new(proxy: Arc<Proxy>) -> Option<Self> {
        let generation = proxy.generation.load_full();
        let ledger = generation.config.ledger.as_ref()?;
        let settings = &generation.config.review;
        let is_secure = Origins { configured: settings.origin.clone() }.is_secure();
        let reviewers = build::reviewers(&generation.config, &proxy.secret);
        let gate = Gate::new(reviewers, settings.idle_timeout, is_secure);
        let reader = Arc::new(Mutex::new(Reader::new(ledger)));
        let (path, number) = (ledger.path.clone(), generation.number);
        let gate = Mutex::new(GateOf { gate, generation: number });
        let (readers, checks) = (Arc::new(Semaphore::new(READERS_MAX)), Semaphore::new(CHECKS_MAX));
        Some(Self { proxy, gate, reader, readers, checks, path })
    }

    /// With the reviewers of the configuration in force.
    fn with_gate<T>(&self, use_it: impl FnOnce(&mut Gate) -> T) -> T {
        let mut of = self.gate.lock();
        let generation = self.proxy.generation.load();
        if of.generation != generation.number {
            of.generation = generation.number;
            let reviewers = build::reviewers(&generation.config, &self.proxy.secret);
            of.gate.renew(reviewers, generation.config.review.idle_timeout);
        }
        use_it(&mut of.gate)
    }

    fn origins(&self) -> Origins {
        Origins { configured: self.proxy.generation.load().config.review.origin.clone() }
    }

    /// If dropped: what was asked for may have been done, and nobody is told.
    async fn answer(&self, request: hyper::Request<Incoming>, address: SocketAddr) -> Answer {
        let (head, body) = request.into_parts();
        let Some(request) = head::request_of(&head) else {
            return refused(None, 400, "Refused", "This request says two things at once.");
        };
        if !self.origins().is_ours(&request) {
            return refused(None, 421, "Refused", "This page is not reached under that name: see [review] origin.");
        }
        let route = Route::of(&request);
        let form = match self.form(&request, &head.headers, body).await {
            Ok(form) => form,
            Err(refusal) => return refusal,
        };
        let visit = self.with_gate(|gate| gate.visit(request.cookie, self.proxy.clock().now()));
        match route {
            Route::Style => style(),
            Route::LoginForm if visit.is_some() => redirect("./", &[]),
            Route::LoginForm => Answer::page(200, login_page(None)),
            Route::Login => self.log_in(&form, self.origins().place_of(&request, address)).await,
            other => match visit {
                None if request.is_read => redirect("login", &[]),
                None => refused(None, 403, "Not logged in", "The session has ended: log in again."),
                Some(visit) => self.answer_reviewer(other, Sent { visit, form }, request.cookie).await,
            },
        }
    }

    /// What a POST has sent, if it may change something; nothing of another request. If dropped: nothing was done.
    async fn form(&self, request: &Request<'_>, headers: &HeaderMap, body: Incoming) -> Result<Form, Answer> {
        if !request.is_post {
            return Ok(Form::default());
        }
        if !self.origins().admits(request) {
            return Err(refused(None, 403, "Refused", "This form was not sent from a page of the review itself."));
        }
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            return Err(refused(None, 415, "Refused", "Only forms are taken."));
        }
        let too_long = || refused(None, 413, "Refused", "The form is longer than any form here, or was cut off.");
        // One that says so is not waited for.
        if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
            return Err(too_long());
        }
        match timeout(READ_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
            Ok(Ok(body)) => Ok(Form::parse(&String::from_utf8_lossy(&body.to_bytes()))),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a form of the review page was not read");
                Err(too_long())
            }
            Err(_) => Err(refused(None, 408, "Refused", "The form took too long.")),
        }
    }

    /// If dropped: an attempt is counted, and no session begun.
    async fn log_in(&self, form: &Form, address: IpAddr) -> Answer {
        let failed_at = tokio::time::Instant::now() + FAILED_AFTER;
        let proven = match self.check(form, address).await {
            Ok(Some(proven)) => proven,
            // The same answer at the same time, whyever.
            Ok(None) => {
                tokio::time::sleep_until(failed_at).await;
                return Answer::page(403, login_page(Some(LOGIN_FAILED)));
            }
            Err(reason) => return cannot(None, &reason),
        };
        let mut random = [0_u8; 64];
        if rand::fill(&mut random).is_err() {
            return cannot(None, "the system gives no random bytes");
        }
        tracing::info!(%address, reviewer = proven.reviewer(), "logged in to the review page");
        let cookie = self.with_gate(|gate| gate.open(proven, &random, self.proxy.clock().now()));
        redirect("./", &[]).with_cookie(cookie)
    }

    /// Who has shown a password. If dropped: an attempt is counted.
    async fn check(&self, form: &Form, address: IpAddr) -> Result<Option<Proven>, String> {
        let (name, password) = (form.value("name"), SecretString::from(form.value("password")));
        let shown: String = name.chars().take(64).collect();
        let attempt = self.with_gate(|gate| gate.attempt(name, address, self.proxy.clock().now()));
        let Some(attempt) = attempt else {
            tracing::warn!(%address, name = shown, "too many logins to the review page");
            return Ok(None);
        };
        let place = self.checks.acquire().await.map_err(|_| "the proxy ends".to_owned())?;
        let checked = spawn_blocking(move || attempt.check(&password)).await.map_err(|error| error.to_string())?;
        drop(place);
        if checked.is_none() {
            tracing::warn!(%address, name = shown, "a login to the review page failed");
        }
        Ok(checked)
    }

    /// If dropped: a mark may have been written.
    async fn answer_reviewer(&self, route: Route, sent: Sent, cookie: Option<&str>) -> Answer {
        let Sent { visit, form } = sent;
        let is_change = matches!(route, Route::Logout | Route::Mark | Route::Verify);
        if is_change && !visit.has_sent(form.value("csrf")) {
            return refused(Some(&visit), 403, "Refused", "This form is not of your session: load the page again.");
        }
        match route {
            Route::Transactions(form) => self.shown(move |reader| page(reader, &visit, &form, transactions_page)).await,
            Route::Sums(form) => self.shown(move |reader| page(reader, &visit, &form, sums_page)).await,
            Route::Detail(form) => self.detail(visit, form).await,
            Route::Verify => {
                self.shown(|reader| {
                    reader.begin_anew();
                    redirect("./", &[])
                })
                .await
            }
            Route::Mark => self.mark(&visit, &form).await,
            Route::Logout => redirect("login", &[]).with_cookie(self.with_gate(|gate| gate.close(cookie))),
            Route::OtherMethod => refused(Some(&visit), 405, "Refused", "That is not how this page is asked for."),
            Route::Unknown | Route::Style | Route::LoginForm | Route::Login => {
                refused(Some(&visit), 404, "Nothing here", "There is no such page.")
            }
        }
    }

    /// Works with the reader, beside the threads that serve clients. If dropped: it is worked all the same.
    async fn shown(&self, work: impl FnOnce(&mut Reader) -> Answer + Send + 'static) -> Answer {
        let reader = Arc::clone(&self.reader);
        let answered = reading(&self.readers, move || work(&mut reader.lock())).await;
        answered.unwrap_or_else(|reason| cannot(None, &reason))
    }

    /// If dropped: nothing is lost.
    async fn detail(&self, visit: Visit, form: Form) -> Answer {
        let path = self.path.clone();
        self.shown(move |reader| {
            reader.refresh();
            let found = match reader::dossier(&path, form.value("id")) {
                Ok(found) => found,
                Err(error) => return cannot(Some(&visit), &format!("the ledger cannot be read: {error}")),
            };
            let Some((act, leaves)) = found else {
                return refused(Some(&visit), 404, "Nothing here", "The ledger has no record of this transaction.");
            };
            match reader.seen() {
                Some((shelf, checked)) => {
                    let sight = Sight { visit: &visit, shelf, checked };
                    Answer::page(200, detail_page(sight, &act, &leaves, &form))
                }
                None => cannot(Some(&visit), "the ledger was not read"),
            }
        })
        .await
    }

    /// Writes a mark into the ledger. If dropped: it may be written.
    async fn mark(&self, visit: &Visit, form: &Form) -> Answer {
        let unfit = |reason: &str| Answer::page(400, unmarked_page(visit, reason, form.value("id")));
        let Ok(transaction) = Uuid::parse_str(form.value("id")) else { return unfit("It is about no transaction.") };
        let Some(judgement) = Judgement::parse(form.value("verdict")) else { return unfit("It needs a verdict.") };
        let note = match parse_note(form.value("note")) {
            Ok(note) => note,
            Err(reason) => return unfit(reason),
        };
        let (path, wanted) = (self.path.clone(), transaction.to_string());
        let found = reading(&self.readers, move || reader::dossier(&path, &wanted)).await;
        match found {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => return unfit("The ledger has no record of this transaction."),
            Ok(Err(error)) => return cannot(Some(visit), &format!("the ledger cannot be read: {error}")),
            Err(reason) => return cannot(Some(visit), &reason),
        }
        let Some(ledger) = self.proxy.ledger() else { return cannot(Some(visit), "there is no ledger") };
        let reviewer = Arc::clone(&visit.reviewer);
        let mark = Mark { id: Uuid::now_v7(), transaction, reviewer, judgement, note };
        let id = mark.id.to_string();
        match ledger.record_act(Box::new(mark)).await {
            Ok(Ok(())) => redirect("transaction", &[("id", &transaction.to_string()), ("marked", &id)]),
            Ok(Err(_)) | Err(_) => {
                let reason = "The ledger cannot be written at the moment: nothing is marked.";
                Answer::page(503, unmarked_page(visit, reason, &transaction.to_string()))
            }
        }
    }
}

/// Reads files beside the threads that serve clients, in one of so many places. If dropped: it is read all the same, and keeps
/// its place until then: a browser that asks again and again takes no more threads than that.
async fn reading<T: Send + 'static>(
    places: &Arc<Semaphore>,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let place = Arc::clone(places).acquire_owned().await.map_err(|_| "the proxy ends".to_owned())?;
    let reading = spawn_blocking(move || {
        let read = read();
        drop(place);
        read
    });
    reading.await.map_err(|error| error.to_string())
}

fn page(reader: &mut Reader, visit: &Visit, form: &Form, page: fn(Sight<'_>, &Form) -> String) -> Answer {
    reader.refresh();
    match reader.seen() {
        Some((shelf, checked)) => Answer::page(200, page(Sight { visit, shelf, checked }, form)),
        None => cannot(Some(visit), "the ledger was not read"),
    }
}

fn refused(visit: Option<&Visit>, status: u16, title: &str, reason: &str) -> Answer {
    Answer::page(status, failure_page(visit, title, reason))
}

fn cannot(visit: Option<&Visit>, reason: &str) -> Answer {
    tracing::error!(reason, "the review page");
    refused(visit, 500, "It did not work", reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_keeps_its_place() {
        let places = Arc::new(Semaphore::new(1));
        let (begun, is_begun) = channel();
        let (go, may_go) = channel::<()>();
        let mut asked = Box::pin(reading(&places, move || {
            begun.send(()).unwrap();
            may_go.recv().unwrap();
        }));
        assert!(futures_util::poll!(&mut asked).is_pending());
        is_begun.recv().unwrap();
        drop(asked);
        assert_eq!(places.available_permits(), 0);
        go.send(()).unwrap();
        drop(places.acquire().await.unwrap());
    }
}
