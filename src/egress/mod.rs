//! The one door out: every request that leaves this process goes through an [`Egress`].
//!
//! It calls only what the configuration named, follows one redirect at most and only within a host, reads bounded
//! answers in bounded time, and reads no proxy or certificate setting from the environment. What goes wrong is an
//! [`EgressError`], which says what to do next. Knows only how certificates read.

mod classify;
mod error;
mod gate;
mod relay;
mod stream;
mod trust;

pub use error::{ConnectFailure, EgressError, Origin, Refusal, TlsCause};
pub use relay::{Relay, Relayed};
pub use stream::Streamed;
pub use trust::CaFileError;

use crate::certificate::Certificate;
use classify::{Context, causes, classify};
use gate::{Gate, VettingResolver};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use trust::Witness;
use url::Url;

/// How long an answer may be, unless it is read piece by piece.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a whole request may take, unless it says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What may be called, and how it is reached.
#[derive(Clone, Default)]
pub struct EgressSettings {
    /// Addresses whose scheme, host and port may be called.
    pub allowed: Vec<String>,
    pub mode: Mode,
    /// PEM files of certificate authorities, trusted besides the system's.
    pub extra_ca_files: Vec<PathBuf>,
    pub https_proxy: Option<String>,
    pub http_proxy: Option<String>,
    /// Hosts, domains and networks that are reached directly, with commas.
    pub no_proxy: Option<String>,
    /// Whether an https server at a loopback address is believed whatever certificate it shows.
    ///
    /// For looking at a server of this machine by an address that its certificate cannot be for. Nothing that a certificate
    /// guards against stands between two ends of one machine, but another process may listen there: ask so only what may
    /// be asked of anybody. Counts for addresses, never for names, and not where a proxy is set, whose loopback would be
    /// meant.
    pub is_loopback_believed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// [`Egress::get_keys`] may go where a named host points to.
    #[default]
    Configured,
    /// Nothing but the named hosts is ever called.
    Airgap,
}

/// Addresses of proxies may hold passwords.
impl fmt::Debug for EgressSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |proxy: &Option<String>| proxy.as_ref().map(|_| "(hidden)");
        formatter
            .debug_struct("EgressSettings")
            .field("allowed", &self.allowed)
            .field("mode", &self.mode)
            .field("extra_ca_files", &self.extra_ca_files)
            .field("https_proxy", &hidden(&self.https_proxy))
            .field("http_proxy", &hidden(&self.http_proxy))
            .field("no_proxy", &self.no_proxy)
            .field("is_loopback_believed", &self.is_loopback_believed)
            .finish()
    }
}

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot call `{text}`: it is not an http or https address")]
    Address { text: String },
    #[error("the address of the {scheme} proxy cannot be used")]
    Proxy { scheme: &'static str },
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    #[error("the HTTP client cannot be set up: {reason}")]
    Client { reason: String },
}

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Egress {
    client: reqwest::Client,
    gate: Arc<Gate>,
    witness: Arc<Witness>,
}

impl fmt::Debug for Egress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Egress").field("gate", &self.gate).finish_non_exhaustive()
    }
}

/// A request. Nobody but the host that is called sees the headers.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub method: Method,
    pub url: &'a str,
    pub headers: &'a [(&'static str, &'a str)],
    /// JSON text.
    pub body: Option<&'a str>,
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
        }
    }
}

impl<'a> Ask<'a> {
    pub fn get(url: &'a str) -> Self {
        Self { method: Method::Get, url, headers: &[], body: None, timeout: TIMEOUT }
    }
}

/// An answer whose body has not been read.
pub struct Answer {
    pub status: u16,
    response: reqwest::Response,
    context: Context,
}

/// An answer in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub status: u16,
    pub content_type: Option<String>,
    /// The `Date` header: the other side's clock.
    pub date: Option<String>,
    pub body: Vec<u8>,
}

impl Fetched {
    /// Whether it is a page for people: a login form or a proxy's refusal, where data was expected.
    pub fn is_html(&self) -> bool {
        let declares = self.content_type.as_ref().is_some_and(|kind| kind.to_ascii_lowercase().contains("text/html"));
        declares || self.body.trim_ascii_start().starts_with(b"<")
    }
}

impl Egress {
    pub fn new(settings: &EgressSettings) -> Result<Self, SettingsError> {
        let gate = Arc::new(Gate::new(settings)?);
        let has_proxy = settings.https_proxy.is_some() || settings.http_proxy.is_some();
        let is_loopback_believed = settings.is_loopback_believed && !has_proxy;
        let (tls, witness) = trust::client_config(&settings.extra_ca_files, is_loopback_believed)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(VettingResolver::new(gate.clone())))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("sconce/", env!("CARGO_PKG_VERSION")));
        let exceptions = settings.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
        for (scheme, proxy) in [("https", &settings.https_proxy), ("http", &settings.http_proxy)] {
            // The client takes a lone asterisk for every name, but not for addresses; people mean both.
            let Some(address) = proxy.as_ref().filter(|_| !gate.is_all_direct()) else { continue };
            let proxy = if scheme == "https" { reqwest::Proxy::https(address) } else { reqwest::Proxy::http(address) };
            let proxy = proxy.map_err(|_| SettingsError::Proxy { scheme })?;
            builder = builder.proxy(proxy.no_proxy(exceptions.clone()));
        }
        let client = builder.build().map_err(|error| SettingsError::Client { reason: causes(&error) })?;
        Ok(Self { client, gate, witness })
    }

    /// Fetches an address whose origin the configuration named. Anything but 2xx is an error.
    pub async fn get(&self, url: &str) -> Result<Fetched, EgressError> {
        self.fetch(self.gate.named(url)?).await
    }

    /// Fetches signing keys from where an issuer says they are. That may be another name of the issuer, so hosts that
    /// the configuration did not name are called too: by https only, not at the addresses where machines keep their
    /// credentials (link-local), and not at all in [`Mode::Airgap`].
    pub async fn get_keys(&self, url: &str) -> Result<Fetched, EgressError> {
        self.fetch(self.gate.pointed_to(url)?).await
    }

    /// Asks an address whose origin the configuration named; every status is an answer.
    pub async fn send(&self, ask: Ask<'_>) -> Result<Answer, EgressError> {
        self.follow(self.gate.named(ask.url)?, ask).await
    }

    /// The proxy that requests to `url` go through, without its password.
    pub fn proxy_for(&self, url: &str) -> Option<String> {
        self.gate.proxy_for(&Url::parse(url).ok()?)
    }

    /// The certificates that a host showed when it was last connected to, its own first.
    pub fn certificates(&self, host: &str) -> Vec<Certificate> {
        self.witness.seen(host)
    }

    async fn fetch(&self, url: Url) -> Result<Fetched, EgressError> {
        let ask = Ask { headers: &[("accept", "application/json")], ..Ask::get("") };
        let at = Origin::with_path(&url);
        let fetched = self.follow(url, ask).await?.into_fetched().await?;
        if !(200..300).contains(&fetched.status) {
            return Err(EgressError::Status { at, status: fetched.status, is_html: fetched.is_html() });
        }
        Ok(fetched)
    }

    /// Asks, and follows one redirect that stays on the host.
    async fn follow(&self, url: Url, ask: Ask<'_>) -> Result<Answer, EgressError> {
        let answer = self.once(url.clone(), ask).await?;
        if matches!(ask.method, Method::Post | Method::Put) || !answer.is_redirect() {
            return Ok(answer);
        }
        let target = redirect_target(&url, &answer)?;
        let answer = self.once(target.clone(), ask).await?;
        if answer.is_redirect() {
            let to =
                redirect_target(&target, &answer).map_or_else(|_| Origin::of(&target), |to| Origin::with_path(&to));
            return Err(EgressError::Redirect { from: Origin::with_path(&target), to });
        }
        Ok(answer)
    }

    async fn once(&self, url: Url, ask: Ask<'_>) -> Result<Answer, EgressError> {
        let (request, context) = self.prepare(url, ask)?;
        match request.timeout(ask.timeout).send().await {
            Ok(response) => Ok(Answer { status: response.status().as_u16(), response, context }),
            Err(error) => Err(classify(&error, &context, self.witness.seen(&context.host))),
        }
    }

    /// The request that an ask means, still without a limit on its time.
    fn prepare(&self, url: Url, ask: Ask<'_>) -> Result<(reqwest::RequestBuilder, Context), EgressError> {
        let context = self.context(&url, ask.timeout);
        let mut request = self.client.request(ask.method.into(), url).headers(header_map(ask.headers)?);
        if let Some(body) = ask.body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        Ok((request, context))
    }

    fn context(&self, url: &Url, timeout: Duration) -> Context {
        Context {
            at: Origin::with_path(url),
            host: url.host_str().unwrap_or_default().to_owned(),
            timeout,
            connect_timeout: CONNECT_TIMEOUT,
            proxy: self.gate.proxy_for(url),
        }
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body as it arrived; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, EgressError> {
        let chunk = self.response.chunk().await;
        let chunk = chunk.map_err(|error| classify(&error, &self.context, Vec::new()))?;
        Ok(chunk.map(|bytes| bytes.to_vec()))
    }

    /// Reads the body, up to [`BODY_BYTES_MAX`].
    pub async fn into_fetched(mut self) -> Result<Fetched, EgressError> {
        let too_large = |at: Origin| EgressError::TooLarge { at, bytes_max: BODY_BYTES_MAX };
        if self.response.content_length().is_some_and(|length| length > BODY_BYTES_MAX as u64) {
            return Err(too_large(self.context.at));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(too_large(self.context.at));
            }
            body.extend_from_slice(&chunk);
        }
        let text = |name| self.header(name).map(str::to_owned);
        Ok(Fetched { status: self.status, content_type: text("content-type"), date: text("date"), body })
    }

    fn is_redirect(&self) -> bool {
        redirect_status(self.status)
    }
}

fn redirect_status(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads, if that is the same host and not less protected.
fn redirect_target(from: &Url, answer: &Answer) -> Result<Url, EgressError> {
    let location = answer.header("location").and_then(|location| from.join(location).ok());
    let Some(to) = location else {
        return Err(EgressError::Redirect { from: Origin::with_path(from), to: Origin::unreadable() });
    };
    let is_same_host = to.host().is_some() && to.host() == from.host();
    let is_same_door = to.scheme() == from.scheme() && to.port_or_known_default() == from.port_or_known_default();
    // Servers that send http callers on to https do so at the standard port.
    let is_upgrade = from.scheme() == "http" && to.scheme() == "https" && to.port().is_none();
    if is_same_host && (is_same_door || is_upgrade) {
        Ok(to)
    } else {
        Err(EgressError::Redirect { from: Origin::with_path(from), to: Origin::with_path(&to) })
    }
}

fn header_map(headers: &[(&'static str, &str)]) -> Result<HeaderMap, EgressError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let mut value = HeaderValue::from_str(value).map_err(|_| EgressError::Header { name })?;
        value.set_sensitive(true);
        map.insert(HeaderName::from_static(name), value);
    }
    Ok(map)
}
