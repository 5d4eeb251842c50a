//! The guest's kernel and initramfs, made of Debian packages and kept until one of them changes.

use super::packages;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Modules of the guest, dependencies aside; it loads all but the last, which a case does. rdma_rxe wants a crc32 shash, which Debian builds as modules.
const MODULES: &[&str] = &[
    "crc32_generic",
    "crc32-pclmul",
    "virtio_pci",
    "virtio_net",
    "rdma_rxe",
    "ib_uverbs",
    "rdma_ucm",
    "ib_umad",
    "nvmet_rdma",
    "brd",
    "nfsd",
    "rpcrdma",
];

/// Programs copied into the guest together with the libraries they load.
const PROGRAMS: &[&str] = &[
    "/sbin/ip",
    "/usr/bin/rdma",
    "/usr/bin/rping",
    "/usr/bin/ucmatose",
    "/usr/bin/ib_write_bw",
    "/usr/bin/ib_send_bw",
    "/usr/bin/ib_read_bw",
    "/usr/bin/ib_atomic_bw",
    "/usr/bin/ibv_rc_pingpong",
    "/usr/bin/ibv_srq_pingpong",
    "/usr/bin/ibv_devinfo",
];

/// Loaded at run time by name, so that `ldd` does not show them.
const LIBRARIES: &[&str] = &["libgcc_s.so.1", "librxe-rdmav34.so"];

const INIT: &str = include_str!("init.sh");

/// A bootable Linux with soft-RoCE.
pub struct Image {
    /// The kernel, as QEMU's `-kernel` takes it.
    pub kernel: PathBuf,
    /// The initramfs, as QEMU's `-initrd` takes it.
    pub initramfs: PathBuf,
}

/// Builds the image in `dir`, or returns the one that is there when nothing it is made of has changed.
///
/// `update` allows to fetch lists of packages.
pub fn build(dir: &Path, update: bool) -> Result<Image> {
    fs::create_dir_all(dir)?;
    // modprobe prints absolute paths.
    let dir = &dir.canonicalize()?;
    let kernel_package = packages::kernel_package(update)?;
    let versions = packages::versions(&kernel_package)?;
    let stamp = format!("{versions}\n{INIT}\n{MODULES:?}{PROGRAMS:?}{LIBRARIES:?}");
    let stamp_file = dir.join("stamp");
    let image = Image {
        kernel: dir.join("vmlinuz"),
        initramfs: dir.join("initramfs.cpio"),
    };
    if fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(image);
    }
    println!("building the guest: {kernel_package} and an initramfs");
    let unpacked = dir.join("kernel");
    remove_dir(&unpacked)?;
    fetch_kernel(dir, &kernel_package, &unpacked)?;
    let version = kernel_package.trim_start_matches("linux-image-").to_owned();
    fs::copy(
        unpacked.join("boot").join(format!("vmlinuz-{version}")),
        &image.kernel,
    )?;

    let root = dir.join("root");
    remove_dir(&root)?;
    for folder in [
        "bin",
        "dev",
        "etc/libibverbs.d",
        "lib64",
        "proc",
        "run",
        "sys",
        "tmp",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    copy_modules(&unpacked, &version, &root)?;
    copy_programs(&root)?;
    fs::write(root.join("etc/libibverbs.d/rxe.driver"), "driver rxe\n")?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    pack(&root, &image.initramfs)?;
    fs::write(stamp_file, stamp)?;
    Ok(image)
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn checked(command: &mut Command) -> Result<()> {
    let status = command
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}

fn fetch_kernel(dir: &Path, package: &str, to: &Path) -> Result<()> {
    let download = dir.join("download");
    remove_dir(&download)?;
    fs::create_dir_all(&download)?;
    // apt drops root for downloads and complains when it cannot write here as another user.
    checked(
        Command::new("apt-get")
            .args(["-o", "APT::Sandbox::User=root", "-qq", "download", package])
            .current_dir(&download),
    )?;
    let archive = fs::read_dir(&download)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get downloaded no {package}"))?;
    checked(Command::new("dpkg-deb").arg("-x").arg(archive).arg(to))?;
    remove_dir(&download)
}

fn copy_modules(unpacked: &Path, version: &str, root: &Path) -> Result<()> {
    checked(Command::new("depmod").arg("-b").arg(unpacked).arg(version))?;
    let source = unpacked.join("lib/modules").join(version);
    let target = root.join("lib/modules").join(version);
    let mut files = BTreeSet::new();
    for module in MODULES {
        let output = Command::new("modprobe")
            .args(["--show-depends", "-S", version, "-d"])
            .arg(unpacked)
            .arg(module)
            .output()
            .context("modprobe")?;
        if !output.status.success() {
            bail!(
                "modprobe does not know {module}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            // "builtin NAME" lines need no file.
            if let Some(path) = line.strip_prefix("insmod ") {
                files.insert(PathBuf::from(path.trim()));
            }
        }
    }
    for file in &files {
        let inner = file
            .strip_prefix(&source)
            .with_context(|| format!("{} is not below {}", file.display(), source.display()))?;
        let to = target.join(inner);
        fs::create_dir_all(to.parent().context("module without a folder")?)?;
        fs::copy(file, to)?;
    }
    for list in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        fs::copy(source.join(list), target.join(list)).with_context(|| list.to_owned())?;
    }
    checked(Command::new("depmod").arg("-b").arg(root).arg(version))
}

fn copy_programs(root: &Path) -> Result<()> {
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox-static")?;
    symlink("busybox", root.join("bin/sh"))?;
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let path = Path::new(program);
        let name = path.file_name().context("program without a name")?;
        fs::copy(path, root.join("bin").join(name)).with_context(|| (*program).to_owned())?;
        libraries.extend(needed_libraries(path)?);
    }
    for library in LIBRARIES {
        let path = find_library(library)?;
        libraries.extend(needed_libraries(&path)?);
        libraries.insert(path);
    }
    for library in libraries {
        let to = root.join(library.strip_prefix("/")?);
        fs::create_dir_all(to.parent().context("library without a folder")?)?;
        fs::copy(&library, to).with_context(|| library.display().to_string())?;
    }
    Ok(())
}

fn needed_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("not found") {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "ldd does not find all that {} needs: {}",
            program.display(),
            [text.trim(), errors.trim()].join(" ")
        );
    }
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}

fn find_library(name: &str) -> Result<PathBuf> {
    [
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu/libibverbs",
    ]
    .iter()
    .map(|folder| Path::new(folder).join(name))
    .find(|path| path.exists())
    .with_context(|| format!("{name} not found among the system's libraries"))
}

fn pack(root: &Path, to: &Path) -> Result<()> {
    let file = fs::File::create(to)?;
    let mut find = Command::new("find")
        .arg(".")
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("find")?;
    let names = find.stdout.take().context("find has no output")?;
    let status = Command::new("cpio")
        .args(["-o", "-H", "newc", "--quiet", "-R", "0:0"])
        .current_dir(root)
        .stdin(names)
        .stdout(file)
        .status()
        .context("cpio")?;
    if !find.wait()?.success() || !status.success() {
        bail!("packing the initramfs failed ({status})");
    }
    Ok(())
}
