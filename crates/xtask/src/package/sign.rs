//! Signing, with openssl and osslsigncode.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes sure that both programs are here.
pub fn find_tools(install: bool) -> Result<()> {
    for tool in ["openssl", "osslsigncode"] {
        if Command::new(tool).arg("version").output().is_ok() {
            continue;
        }
        if !install {
            bail!("{tool} is missing: --install gets it on Debian");
        }
        crate::debian::install(&[tool])?;
    }
    Ok(())
}

/// A certificate and its key.
pub struct Signer {
    certificate: PathBuf,
    key: PathBuf,
    /// Seconds since 1970.
    time: String,
    /// Where both are if they are to be thrown away.
    folder: Option<PathBuf>,
}

impl Signer {
    /// Somebody's own, which installing makes a root of the machine: only one that can vouch for nothing else.
    pub fn with(certificate: &Path, key: &Path, seconds: i64) -> Result<Self> {
        let output = Command::new("openssl")
            .args(["x509", "-noout", "-subject", "-issuer"])
            .args(["-ext", "basicConstraints,extendedKeyUsage", "-in"])
            .arg(certificate)
            .output()
            .context("openssl")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let shown = certificate.display();
        ensure!(output.status.success(), "{shown} is no certificate");
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        ensure!(
            field("subject=").is_some() && field("subject=") == field("issuer="),
            "{shown} is issued by another certificate"
        );
        ensure!(
            !text.contains("CA:TRUE"),
            "{shown} can issue other certificates"
        );
        ensure!(
            text.contains("Code Signing"),
            "{shown} is not for signing code"
        );
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            time: seconds.to_string(),
            folder: None,
        })
    }

    /// A new one that vouches for itself, in a folder that must not be packed.
    pub fn for_tests(folder: &Path, seconds: i64) -> Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        std::fs::create_dir_all(folder)?;
        let signer = Self {
            certificate: folder.join("vroce.pem"),
            key: folder.join("vroce.key"),
            time: seconds.to_string(),
            folder: Some(folder.to_owned()),
        };
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-newkey", "rsa:3072", "-sha256", "-nodes"])
            .args(["-days", "365", "-subj", "/CN=vroce test signing"])
            .args(["-addext", "keyUsage=critical,digitalSignature"])
            .args(["-addext", "extendedKeyUsage=critical,codeSigning"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&signer.key)
            .arg("-out")
            .arg(&signer.certificate);
        run(&mut command)?;
        Ok(signer)
    }

    /// Signs an image or a catalog.
    pub fn sign(&self, from: &Path, to: &Path) -> Result<()> {
        let mut command = Command::new("osslsigncode");
        command
            .args(["sign", "-h", "sha256", "-n", "vroce", "-time", &self.time])
            .arg("-certs")
            .arg(&self.certificate)
            .arg("-key")
            .arg(&self.key)
            .arg("-in")
            .arg(from)
            .arg("-out")
            .arg(to);
        run(&mut command)
    }

    /// Throws the key of a new certificate away, when there is nothing more to sign.
    pub fn forget_key(&mut self) -> Result<()> {
        if self.folder.is_some() {
            std::fs::remove_file(&self.key).context("the key of the new certificate")?;
        }
        Ok(())
    }

    /// Verifies a signature; with a catalog, that of the catalog, in which the file has to be.
    pub fn verify(&self, file: &Path, catalog: Option<&Path>) -> Result<()> {
        let mut command = Command::new("osslsigncode");
        command.arg("verify").arg("-CAfile").arg(&self.certificate);
        if let Some(catalog) = catalog {
            command.arg("-catalog").arg(catalog);
        }
        run(command.arg(file))
    }

    /// The certificate as Windows reads it.
    pub fn certificate(&self) -> Result<Vec<u8>> {
        let output = Command::new("openssl")
            .args(["x509", "-outform", "DER", "-in"])
            .arg(&self.certificate)
            .output()
            .context("openssl")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output.stdout)
    }
}

impl Drop for Signer {
    /// Throws a new certificate away, and its key if something failed before it was forgotten.
    fn drop(&mut self) {
        if let Some(folder) = &self.folder
            && let Err(error) = std::fs::remove_dir_all(folder)
        {
            eprintln!("{} is still there: {error}", folder.display());
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}{}",
            String::from_utf8_lossy(&output.stdout).trim(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
