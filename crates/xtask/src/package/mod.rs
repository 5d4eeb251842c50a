//! `cargo xtask package`: everything that a tester installs, in one zip.
//!
//! With the same sources, compiler, certificate and SOURCE_DATE_EPOCH the zip is the same, bit for bit.

mod archive;
mod authenticode;
mod catalog;
mod der;
mod sign;

use crate::image::{self, Arch, audit};
use crate::inf::{self, stamp};
use crate::workspace::{root, target};
use anyhow::{Context, Result, bail, ensure};
use catalog::{Catalog, Member};
use sign::Signer;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of `cargo xtask package`.
#[derive(clap::Args)]
pub struct Options {
    /// The processor the package is for.
    #[arg(long, value_enum, default_value = "x64")]
    arch: Arch,
    /// The image, with its symbols beside it [default: builds vroce.sys].
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Sign with this certificate [default: a new one, for tests, whose key is thrown away].
    #[arg(long, value_name = "PEM", requires = "key")]
    certificate: Option<PathBuf>,
    /// The certificate's private key.
    #[arg(long, value_name = "PEM", requires = "certificate")]
    key: Option<PathBuf>,
    /// Install what is missing: a compiler, openssl, osslsigncode (Debian, needs root).
    #[arg(long)]
    install: bool,
}

/// What goes in as it is: name in the package, path in the tree.
const AS_IT_IS: [(&str, &str); 7] = [
    ("README.txt", "package/README.txt"),
    ("windows.md", "docs/windows.md"),
    ("install.ps1", "package/install.ps1"),
    ("uninstall.ps1", "package/uninstall.ps1"),
    ("testing-windows.ps1", "docs/testing-windows.ps1"),
    ("LICENSE-MIT", "LICENSE-MIT"),
    ("LICENSE-APACHE", "LICENSE-APACHE"),
];

/// Makes the package, and looks at what it has made; `false` when something is wrong with it.
pub fn run(options: &Options) -> Result<bool> {
    sign::find_tools(options.install)?;
    let (image, symbols) = match &options.image {
        Some(image) => (image.clone(), image.with_extension("pdb")),
        None => {
            let built = image::build(options.arch, options.install)?;
            (built.image, built.symbols)
        }
    };
    // Before anything is removed: they may lie where an earlier package was.
    let (unsigned, symbols) = (read(&image)?, read(&symbols)?);
    ensure!(
        !authenticode::signed(&unsigned)?,
        "{} is signed already",
        image.display()
    );
    let seconds = moment()?;
    let version = stamp::Version::new(env!("CARGO_PKG_VERSION"), seconds)?;
    let name = format!(
        "vroce-{}-{}",
        env!("CARGO_PKG_VERSION"),
        options.arch.name()
    );
    let folder = target()?.join("package");
    std::fs::create_dir_all(&folder)?;
    let folder = folder.join(options.arch.name());
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let zip = folder.with_file_name(format!("{name}.zip"));
    if zip.exists() {
        std::fs::remove_file(&zip)?;
    }
    std::fs::create_dir(&folder)?;
    let mut signer = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => Signer::with(certificate, key, seconds)?,
        _ => Signer::for_tests(&beside(&folder, "signer"), seconds)?,
    };

    let inx = read(&root().join("inf/vroce.inx"))?;
    let inx = String::from_utf8(inx).context("inf/vroce.inx")?;
    let inf = stamp::stamp(&inx, options.arch, &version);
    let wrong = inf::lint(&inf);
    ensure!(wrong.is_empty(), "the INF is wrong: {}", wrong[0]);
    write(&folder, "vroce.inf", inf.as_bytes())?;

    let system = folder.join("vroce.sys");
    let input = beside(&folder, "unsigned.sys");
    std::fs::write(&input, &unsigned)?;
    signer.sign(&input, &system)?;
    std::fs::remove_file(input)?;
    write(&folder, "vroce.pdb", &symbols)?;
    let members = vec![
        Member {
            name: "vroce.sys".into(),
            hash: authenticode::hash(&unsigned)?,
            image: true,
        },
        Member {
            name: "vroce.inf".into(),
            hash: archive::sha256(inf.as_bytes()),
            image: false,
        },
    ];
    let catalog = folder.join("vroce.cat");
    let unsigned = beside(&folder, "unsigned.cat");
    std::fs::write(
        &unsigned,
        contents(options.arch, &inf, members, seconds).write(),
    )?;
    signer.sign(&unsigned, &catalog)?;
    signer.forget_key()?;
    std::fs::remove_file(unsigned)?;
    write(&folder, "vroce.cer", &signer.certificate()?)?;
    for (name, path) in AS_IT_IS {
        let text = String::from_utf8(read(&root().join(path))?).context(path)?;
        write(&folder, name, text.replace('\n', "\r\n").as_bytes())?;
    }
    if !check(options.arch, &folder, &signer, &inf)? {
        println!("no package: what is wrong is in {}", folder.display());
        return Ok(false);
    }
    let zip = archive::pack(&folder, &name, seconds)?;
    println!("package  {} ({} KiB)", zip.display(), archive::kib(&zip)?);
    println!("         DriverVer {}", version.directive());
    println!("         SHA-256 of the zip, and of what is in it:");
    print!("{}{}", archive::line(&zip)?, archive::list(&folder)?);
    Ok(true)
}

/// What the catalog says.
fn contents(arch: Arch, inf: &str, members: Vec<Member>, seconds: i64) -> Catalog {
    let mut attributes: Vec<(String, String)> = hardware_ids(inf)
        .into_iter()
        .enumerate()
        .map(|(index, id)| (format!("HWID{}", index + 1), id))
        .collect();
    // The names that catalogs of others have for Windows Server 2022 and 2025. For arm64 none of these two is known.
    if arch == Arch::X64 {
        let systems = "Server_v100_X64_21H2,Server_v100_X64_24H2";
        attributes.insert(0, ("OS".into(), systems.into()));
    }
    let (year, month, day) = stamp::civil(seconds.div_euclid(86_400));
    let (hour, minute, second) = stamp::clock(seconds);
    Catalog {
        members,
        kernels: "2:10.0",
        attributes,
        time: format!(
            "{:02}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z",
            year.rem_euclid(100)
        ),
    }
}

/// The hardware ids of an INF, in small letters as catalogs have them, each once.
fn hardware_ids(inf: &str) -> Vec<String> {
    let mut ids: Vec<String> = inf
        .lines()
        .filter(|line| !line.trim_start().starts_with(';'))
        .flat_map(|line| line.split(','))
        .map(|field| field.trim().to_ascii_lowercase())
        .filter(|field| field.starts_with("pci\\"))
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

/// The moment of the package, seconds since 1970: SOURCE_DATE_EPOCH, or when the commit was made.
fn moment() -> Result<i64> {
    if let Ok(seconds) = std::env::var("SOURCE_DATE_EPOCH") {
        return seconds.parse().context("SOURCE_DATE_EPOCH");
    }
    let output = Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(root())
        .output()
        .context("git")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().parse() {
        Ok(seconds) if output.status.success() => Ok(seconds),
        _ => bail!("no commit here: set SOURCE_DATE_EPOCH"),
    }
}

/// Looks at what has been made: signatures, catalog, and the image once more.
fn check(arch: Arch, folder: &Path, signer: &Signer, inf: &str) -> Result<bool> {
    let (system, catalog) = (folder.join("vroce.sys"), folder.join("vroce.cat"));
    signer.verify(&system, None)?;
    println!("ok     signature of vroce.sys (osslsigncode)");
    signer.verify(&system, Some(&catalog))?;
    println!("ok     signature of vroce.cat, and that vroce.sys is in it (osslsigncode)");
    // osslsigncode looks for scripts and programs in catalogs, not for INFs.
    let hash = archive::sha256(inf.as_bytes());
    let listed = read(&catalog)?
        .windows(hash.len())
        .filter(|part| *part == hash)
        .count();
    // What a member is called by, and what it is signed with.
    ensure!(listed == 2, "vroce.inf is {listed} times in vroce.cat");
    println!("ok     vroce.inf is in vroce.cat");
    let mut right = true;
    for audit::Finding { what, seen } in audit::audit(&system, arch)? {
        if let audit::Seen::Wrong(seen) = seen {
            println!("WRONG  {what}: {seen}");
            right = false;
        }
    }
    if right {
        println!("ok     the signed image passes the audit, checksum and all");
    }
    if arch == Arch::X64 {
        println!(
            "       cargo xtask test-image --image {} tests it",
            system.display()
        );
    }
    Ok(right)
}

/// What is called like the folder, and more.
fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut path = folder.as_os_str().to_owned();
    path.push(".");
    path.push(suffix);
    path.into()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    std::fs::write(folder.join(name), bytes).with_context(|| name.to_owned())
}

#[cfg(test)]
mod scripts;
#[cfg(test)]
mod tests;
