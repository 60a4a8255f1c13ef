//! Certificates for tests: an authority, and what it issues, in files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;

/// An authority of a test's own; its files are gone when it is dropped.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What it calls itself.
    pub common_name: &'a str,
    /// The host names and addresses that it stands for.
    pub hosts: &'a [&'a str],
    /// The years between which it is valid.
    pub years: [i32; 2],
}

/// A certificate and its private key, each in a file of PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Default for Subject<'_> {
    /// This machine, always valid.
    fn default() -> Self {
        Self {
            common_name: "a test",
            hosts: &["localhost", "127.0.0.1"],
            years: [2000, 4000],
        }
    }
}

impl Authority {
    /// An authority of this name.
    ///
    /// # Errors
    /// If it cannot be made, or its certificate not written.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).context("naming an authority")?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("making a key")?;
        let certificate = params.self_signed(&key).context("signing an authority")?;
        let folder = tempfile::tempdir().context("making a folder for certificates")?;
        let own = Issued::at(folder.path(), "authority");
        own.write(&certificate.pem(), &key)?;
        let issuer = Issuer::new(params, key);
        Ok(Self { folder, issuer })
    }

    /// Its own certificate, by which it is trusted, and the key.
    pub fn own(&self) -> Issued {
        Issued::at(self.folder.path(), "authority")
    }

    /// Issues a certificate in files that begin with `name`, in place of what it
    /// issued before by that name.
    ///
    /// # Errors
    /// If it cannot be made, or not written.
    pub fn issue(&self, name: &str, subject: &Subject) -> Result<Issued> {
        let hosts: Vec<String> = subject.hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).context("naming a certificate")?;
        let common_name = subject.common_name;
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let [from, to] = subject.years;
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().context("making a key")?;
        let certificate = params.signed_by(&key, &self.issuer);
        let issued = Issued::at(self.folder.path(), name);
        issued.write(&certificate.context("signing a certificate")?.pem(), &key)?;
        Ok(issued)
    }
}

impl Issued {
    /// Puts both files in the place of those of `other`, as a renewal does.
    ///
    /// # Errors
    /// If they cannot be copied.
    pub fn replace(&self, other: &Self) -> Result<()> {
        fs::copy(&self.certificate, &other.certificate).context("renewing a certificate")?;
        fs::copy(&self.key, &other.key).context("renewing a key")?;
        Ok(())
    }

    fn at(folder: &Path, name: &str) -> Self {
        Self {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        }
    }

    fn write(&self, certificate: &str, key: &KeyPair) -> Result<()> {
        fs::write(&self.certificate, certificate).context("writing a certificate")?;
        fs::write(&self.key, key.serialize_pem()).context("writing a key")
    }
}
