//! Signatures: CMS over X.509, by openssl. RAUC's bundles take the same key, so a
//! fleet has one to guard.
//!
//! Without `--key` a key for development is made once, readable by its owner
//! only, in a folder that git ignores. Boards trust the certificate that their
//! image was built with, so an image signed with it must not leave the desk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Args;
use crate::process::{command, output, run};

/// Ten years: a gateway's life. A certificate for production chooses its own.
const DEVELOPMENT_DAYS: &str = "3650";

pub(super) struct Signer {
    pub(super) key: PathBuf,
    pub(super) cert: PathBuf,
    /// What boards are given to trust.
    pub(super) ca: PathBuf,
}

impl Signer {
    /// The key that `args` names, or the one for development in `folder`.
    pub(super) fn new(args: &Args, folder: &Path) -> Result<Self> {
        crate::packages::install_missing(super::tools::SIGNING)?;
        let (Some(key), Some(cert)) = (&args.key, &args.cert) else {
            return Self::development(folder);
        };
        let signer = Self {
            key: std::path::absolute(key)?,
            cert: std::path::absolute(cert)?,
            ca: std::path::absolute(args.ca.as_ref().unwrap_or(cert))?,
        };
        for file in [&signer.key, &signer.cert, &signer.ca] {
            ensure!(file.is_file(), "{} is no file", file.display());
        }
        signer.check_chain()?;
        Ok(signer)
    }

    /// The key for development in `folder`, made if it is not there.
    pub(super) fn development(folder: &Path) -> Result<Self> {
        let signer = Self {
            key: folder.join("key.pem"),
            cert: folder.join("cert.pem"),
            ca: folder.join("cert.pem"),
        };
        // The certificate comes last, so that half a pair is made again.
        if !signer.cert.is_file() {
            println!("making a key for development in {}", folder.display());
            make_pair(folder, &signer)?;
        }
        Ok(signer)
    }

    /// Whether boards that trust `ca` will trust what `cert` signs: flash.sh and RAUC
    /// ask the same, when it is too late.
    fn check_chain(&self) -> Result<()> {
        let mut openssl = command("openssl");
        openssl
            .args(["verify", "-no-CApath", "-no-CAstore"])
            .args(["-purpose", "smimesign", "-CAfile"])
            .arg(&self.ca)
            .arg(&self.cert);
        output(openssl).map(drop).with_context(|| {
            format!(
                "{} does not vouch for {}; --ca names the authority that issued it",
                self.ca.display(),
                self.cert.display()
            )
        })
    }

    /// Writes the detached signature of `file` to `<file>.sig`.
    pub(super) fn sign(&self, file: &Path) -> Result<()> {
        let mut openssl = command("openssl");
        openssl
            .args(["cms", "-sign", "-binary", "-outform", "DER", "-signer"])
            .arg(&self.cert)
            .arg("-inkey")
            .arg(&self.key)
            .arg("-in")
            .arg(file)
            .arg("-out")
            .arg(file.with_added_extension("sig"));
        run(openssl)
    }
}

fn make_pair(folder: &Path, signer: &Signer) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    let new_cert = folder.join("cert.pem.new");
    let mut openssl = command("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:P-256", "-nodes", "-sha256", "-days"])
        .args([DEVELOPMENT_DAYS, "-subj", "/O=hark/CN=hark development"])
        .arg("-keyout")
        .arg(&signer.key)
        .arg("-out")
        .arg(&new_cert);
    run(openssl)?;
    fs::set_permissions(&signer.key, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new_cert, &signer.cert).context("putting the certificate in place")
}
