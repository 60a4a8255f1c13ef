//! What is asked of TLS, and what is made of it for one connection.
//!
//! Every file is read anew for each connection: what was renewed is in force
//! with the next one, and a connection that stands is left alone. Files that do
//! not fit together, as in the middle of a renewal, cost one try. Reading them is
//! for a thread that may wait, as are the handshake and its arithmetic.

mod words;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The system's whole collection of authorities has a fourth of that.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How a connection is secured. All files are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that the broker's certificate may come from; none: those
    /// of the system.
    pub ca_file: Option<PathBuf>,
    /// What this client shows to a broker that asks.
    pub identity: Option<Identity>,
    /// The name that the broker's certificate is to have; none: that of its host.
    pub server_name: Option<String>,
}

/// A client's own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and after it those that lead to its authority.
    pub cert_file: PathBuf,
    /// Its private key, not encrypted: PKCS #8, PKCS #1 or SEC 1.
    pub key_file: PathBuf,
}

/// Why there can be no connection by TLS before the broker is asked.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("reading {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} {what}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// The system has no authority to trust in.
    #[error(
        "this system knows no authorities to trust in{why}: install the package ca-certificates, or set ca_file"
    )]
    NoAuthorities {
        /// The first thing that went wrong when it was asked, after a colon.
        why: String,
    },
    /// A certificate can have no such name.
    #[error("{name:?} is no name that a certificate could have: set server_name")]
    Name {
        /// The host, or what is set in its place.
        name: String,
    },
    /// The library's words.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Tls {
    /// Reads every file as a connection would.
    ///
    /// # Errors
    /// What would keep each connection from being made.
    pub fn check(&self) -> Result<(), TlsError> {
        self.config().map(drop)
    }

    /// A client's side of one connection to `host`.
    pub(crate) fn connection(&self, host: &str) -> Result<ClientConnection, TlsError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let server = ServerName::try_from(name.to_owned());
        let server = server.map_err(|_| TlsError::Name {
            name: name.to_owned(),
        })?;
        Ok(ClientConnection::new(Arc::new(self.config()?), server)?)
    }

    /// What `error` says to whoever can do something about it.
    pub(crate) fn words(&self, error: &rustls::Error) -> String {
        words::of(error, self)
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.authorities()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.read()?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|error| identity.refused(&error))?
            }
        };
        // No two connections share a configuration that could remember.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    fn authorities(&self) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        let Some(path) = &self.ca_file else {
            let found = rustls_native_certs::load_native_certs();
            // Of a hundred some may be too odd for the library, and are not missed.
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let why = found.errors.first();
                let why = why.map_or(String::new(), |error| format!(" ({error})"));
                return Err(TlsError::NoAuthorities { why });
            }
            return Ok(store);
        };
        for certificate in read_certificates(path)? {
            let added = store.add(certificate);
            added.map_err(|error| {
                unusable(path, format!("holds a certificate that is none: {error}"))
            })?;
        }
        Ok(store)
    }
}

impl Identity {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = read_certificates(&self.cert_file)?;
        let path = &self.key_file;
        let key = PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
            pem::Error::NoItemsFound => unusable(
                path,
                "holds no private key in PEM; one that is encrypted cannot be read: \
                 `openssl pkey -in FILE -out NEW` takes the encryption away",
            ),
            // Not the error's own words: they may show a part of the key.
            _ => unusable(path, "is damaged: it is no PEM"),
        })?;
        Ok((chain, key))
    }

    fn refused(&self, error: &rustls::Error) -> TlsError {
        let what = match error {
            rustls::Error::InconsistentKeys(_) => {
                let cert_file = self.cert_file.display();
                format!("is not the key of the first certificate in {cert_file}")
            }
            error => format!("cannot be used: {error}"),
        };
        unusable(&self.key_file, what)
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(unusable(
            path,
            "holds no certificate in PEM (`openssl x509 -in FILE -out NEW` makes PEM of others)",
        )),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(unusable(path, "is damaged: it is no PEM")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("has more than {FILE_BYTES_MAX} bytes");
        return Err(unusable(path, what));
    }
    Ok(bytes)
}

fn unusable(path: &Path, what: impl Into<String>) -> TlsError {
    TlsError::Unusable {
        path: path.to_owned(),
        what: what.into(),
    }
}
