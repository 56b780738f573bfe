//! Dialling: how one part reaches another, with TLS where the address says https, and with the caller's token.
//!
//! An address that says https is never spoken to in plain text, and a token never leaves in plain text.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{io::AsyncBufReadExt, net::TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Error, Uri},
};

use super::{Address, Tls, TlsError};
use crate::access::Token;

/// A channel that says who calls.
pub type Line = InterceptedService<Channel, Bearer>;

/// So long the first words of the other side are waited for.
const FIRST_WORDS: Duration = Duration::from_millis(500);

type Wire = TokioIo<Either<TcpStream, Box<tokio_rustls::client::TlsStream<TcpStream>>>>;

/// What a caller shows, and whom it trusts. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    tls: Option<Tls>,
    bearer: Bearer,
}

impl Dialer {
    /// With the certificates of a folder, or those that the system trusts; and with a token, if there is one.
    pub fn new(tls: Option<Tls>, bearer: Bearer) -> Self {
        Self { tls, bearer }
    }

    /// Fails for an address that a token would be sent to in plain text.
    ///
    /// # Errors
    /// [`PlainToken`].
    pub fn check(&self, address: &Address) -> Result<(), PlainToken> {
        match self.bearer {
            Bearer::None => Ok(()),
            _ if address.is_secure() => Ok(()),
            _ => Err(PlainToken { address: address.clone() }),
        }
    }

    /// Connects now.
    ///
    /// # Errors
    /// Nobody is there, or not who should be.
    pub async fn connect(&self, address: &Address, patience: Duration) -> Result<Channel, Error> {
        address.endpoint(patience).connect_with_connector(self.connector(address)).await
    }

    /// Connects when it is used; only within a runtime.
    pub fn connect_lazy(&self, address: &Address, patience: Duration) -> Channel {
        address.endpoint(patience).connect_with_connector_lazy(self.connector(address))
    }

    /// A channel on which it says who calls.
    pub fn line(&self, channel: Channel, address: &Address) -> Line {
        let bearer = if address.is_secure() { self.bearer.clone() } else { Bearer::None };
        InterceptedService::new(channel, bearer)
    }

    fn connector(
        &self,
        address: &Address,
    ) -> impl tower_service::Service<
        Uri,
        Response = Wire,
        Error = io::Error,
        Future = impl Future<Output = io::Result<Wire>> + Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static {
        let (tls, secure) = (self.tls.clone(), address.is_secure());
        tower::service_fn(move |uri: Uri| {
            let tls = tls.clone();
            async move {
                let config = match secure {
                    true => Some(config(tls.as_ref())?),
                    false => None,
                };
                dial(&uri, config).await
            }
        })
    }
}

fn config(tls: Option<&Tls>) -> Result<Arc<ClientConfig>, TlsError> {
    tls.map_or_else(Tls::of_system, |tls| Ok(tls.client()))
}

async fn dial(uri: &Uri, tls: Option<Arc<ClientConfig>>) -> io::Result<Wire> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_string();
    let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    let Some(config) = tls else { return Ok(TokioIo::new(Either::Left(stream))) };
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    // Whether it takes this side's certificate it says after the handshake, in place of its first words, which come unasked
    // from a coordinator. Others may wait for ours.
    if let Ok(first) = tokio::time::timeout(FIRST_WORDS, stream.fill_buf()).await
        && first?.is_empty()
    {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(TokioIo::new(Either::Right(Box::new(stream))))
}

/// A token would leave in plain text.
#[derive(Debug, thiserror::Error)]
#[error(
    "a token is never sent in plain text, and {address} is plain: write https://, or leave the token out"
)]
pub struct PlainToken {
    /// Where it would go.
    pub address: Address,
}

/// Adds a token to every call.
#[derive(Clone, Debug, Default)]
pub enum Bearer {
    /// There is none.
    #[default]
    None,
    /// This one.
    Token(Token),
    /// The one in this file, read for every call: it may be replaced at any time.
    File(PathBuf),
}

impl Bearer {
    /// The token.
    ///
    /// # Errors
    /// The file cannot be read, or holds none: a line for people.
    pub fn token(&self) -> Result<Option<Token>, String> {
        match self {
            Self::None => Ok(None),
            Self::Token(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                let read = std::fs::read_to_string(path)
                    .map_err(|e| format!("the token file `{}` cannot be read: {e}", path.display()))?;
                let none = || format!("the token file `{}` holds no token of sr3", path.display());
                Token::parse(&read).map(Some).ok_or_else(none)
            }
        }
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = self.token().map_err(Status::unauthenticated)? {
            let written = format!("Bearer {}", token.text());
            let mut value: MetadataValue<Ascii> =
                written.parse().map_err(|_| Status::internal("a token that cannot be sent"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// What TLS has against the other side, or the other side against this one, if that is why a call failed: it will not be
/// better in a moment.
pub fn distrust(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        let found = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).or(error.downcast_ref());
        match found {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                return Some(format!("the certificate there is not to be trusted ({reason})"));
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                return Some(format!("it does not take the certificate of this side ({alert:?})"));
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                return Some("it does not speak TLS: write http://, if that is meant".into());
            }
            _ => cause = error.source(),
        }
    }
    None
}
