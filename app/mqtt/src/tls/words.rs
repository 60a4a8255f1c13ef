//! What a failure of TLS says: what is wrong, and what would be right.
//!
//! Who reads it stands before a gateway with a key in a configuration to mend, so
//! each names that key, or whose certificate is to be made anew.

use std::path::Path;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use super::Tls;

pub(super) fn of(error: &Error, tls: &Tls) -> String {
    match error {
        Error::InvalidCertificate(why) => {
            format!("the broker's certificate {}", of_certificate(why, tls))
        }
        Error::AlertReceived(alert) => of_alert(*alert, tls),
        Error::InvalidMessage(_) => format!(
            "what answers there is not TLS ({error}): set tls = false, or the port that speaks \
             it, mostly 8883"
        ),
        Error::PeerIncompatible(_) => {
            format!("no way to speak TLS in common ({error}): hark takes TLS 1.2 and 1.3")
        }
        error => error.to_string(),
    }
}

fn of_certificate(why: &CertificateError, tls: &Tls) -> String {
    match why {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "expired at {}, and it is {} by the clock here: renew it there, or set the clock",
            date(*not_after),
            date(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "is not valid before {}, and it is {} by the clock here: set the clock",
            date(*not_before),
            date(*time)
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let expected = expected.to_str();
            if presented.is_empty() {
                return format!(
                    "names no host as subjectAltName (a common name does not count), and is to \
                     be for {expected}: make it anew"
                );
            }
            let presented: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let presented = presented.join(", ");
            format!("is for {presented} and not for {expected}: set host or server_name to that")
        }
        CertificateError::UnknownIssuer => match &tls.ca_file {
            Some(ca_file) => format!(
                "comes from an unknown authority, none of {}: ca_file has to hold the \
                 certificate of that authority",
                ca_file.display()
            ),
            None => "comes from an unknown authority, none that this system trusts: set ca_file \
                     to the certificate of that authority"
                .to_owned(),
        },
        CertificateError::InvalidPurposeContext { .. } => {
            "is not for servers: its extendedKeyUsage lacks serverAuth".to_owned()
        }
        // The library has no names for these two, which `openssl req -x509` and
        // `openssl x509 -req` make unless they are told otherwise.
        CertificateError::Other(other) if is(other, "CaUsedAsEndEntity") => {
            "is an authority's own: make one for the broker that says \
             basicConstraints=CA:FALSE"
                .to_owned()
        }
        CertificateError::Other(other) if is(other, "UnsupportedCertVersion") => {
            "is of X.509 version 1: make one with a subjectAltName, which is of version 3"
                .to_owned()
        }
        why => format!("is not taken: {why}"),
    }
}

fn of_alert(alert: AlertDescription, tls: &Tls) -> String {
    let Some(identity) = &tls.identity else {
        return match alert {
            AlertDescription::CertificateRequired => {
                "the broker wants a certificate of this client: set cert_file and key_file"
                    .to_owned()
            }
            // Before TLS 1.3 there is no alert of its own for it.
            AlertDescription::HandshakeFailure | AlertDescription::BadCertificate => format!(
                "the broker ends the handshake ({alert:?}): if it wants a certificate of this \
                 client, set cert_file and key_file"
            ),
            alert => of_other_alert(alert),
        };
    };
    let refused = |why: &str| refused(&identity.cert_file, why);
    match alert {
        AlertDescription::UnknownCA => refused("it does not know its authority"),
        AlertDescription::CertificateExpired => refused("it has expired, or is not valid yet"),
        AlertDescription::CertificateRevoked => refused("it is revoked"),
        AlertDescription::UnsupportedCertificate => {
            refused("it is of a kind that it does not take, or not for clients")
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRequired
        | AlertDescription::AccessDenied => refused(&format!("{alert:?}")),
        alert => of_other_alert(alert),
    }
}

fn refused(cert_file: &Path, why: &str) -> String {
    let cert_file = cert_file.display();
    format!("the broker refuses the certificate in {cert_file} (cert_file): {why}")
}

fn of_other_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::ProtocolVersion => {
            "the broker speaks neither TLS 1.2 nor 1.3 (ProtocolVersion)".to_owned()
        }
        AlertDescription::UnrecognisedName => {
            "the broker does not go by that name (UnrecognisedName): set server_name".to_owned()
        }
        alert => format!("the broker ends TLS: {alert:?}"),
    }
}

fn is(other: &rustls::OtherError, name: &str) -> bool {
    format!("{other:?}").contains(name)
}

/// `localhost` of `DnsName("localhost")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| {
        let inner = rest.strip_suffix(')')?;
        Some(inner.trim_matches('"'))
    });
    inner.unwrap_or(name)
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    match seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        Some(time) => time.to_string(),
        None => format!("second {} of 1970", time.as_secs()),
    }
}
