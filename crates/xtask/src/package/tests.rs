//! A package made of an image that is none of ours: what is signed, and what can be made again.

use super::*;

/// A folder of this test, which goes away with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = target()
            .unwrap()
            .join(format!("package-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn hardware_ids_are_those_of_the_inf() {
    let inx = include_str!("../../../../inf/vroce.inx");
    assert_eq!(
        hardware_ids(inx),
        ["pci\\ven_1af4&dev_1000", "pci\\ven_1af4&dev_1041",]
    );
}

#[test]
fn a_catalog_is_der_that_others_read() {
    let member = |name: &str, image| Member {
        name: name.into(),
        hash: archive::sha256(name.as_bytes()),
        image,
    };
    let members = vec![member("vroce.sys", true), member("vroce.inf", false)];
    let inf = "%D% = i, PCI\\VEN_1AF4&DEV_1041\n";
    let catalog = contents(Arch::X64, inf, members, 1_700_000_000).write();
    let folder = Folder::new("catalog");
    let path = folder.0.join("vroce.cat");
    std::fs::write(&path, catalog).unwrap();
    let output = Command::new("openssl")
        .args(["asn1parse", "-inform", "DER", "-in"])
        .arg(&path)
        .output()
        .expect("openssl, which has to be installed for this test");
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        ":pkcs7-signedData",
        ":1.3.6.1.4.1.311.12.1.3",
        ":231114221320Z",
        ":1.3.6.1.4.1.311.2.1.15",
        ":1.3.6.1.4.1.311.2.1.25",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // File and OSAttr of both members, OS and HWID1 of the catalog.
    assert_eq!(text.matches(":1.3.6.1.4.1.311.12.2.1").count(), 6, "{text}");
}

#[test]
fn a_certificate_that_vouches_for_others_is_refused() {
    let folder = Folder::new("certificate");
    let (certificate, key) = (folder.0.join("c.pem"), folder.0.join("c.key"));
    for (authority, usage, right) in [
        ("CA:FALSE", "codeSigning", true),
        ("CA:TRUE", "codeSigning", false),
        ("CA:FALSE", "serverAuth", false),
    ] {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes"])
            .args(["-subj", "/CN=vroce's test"])
            .args(["-addext", &format!("basicConstraints=critical,{authority}")])
            .args(["-addext", &format!("extendedKeyUsage={usage}"), "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .expect("openssl, which has to be installed for this test");
        assert!(made.status.success());
        let signer = Signer::with(&certificate, &key, 0);
        assert_eq!(signer.is_ok(), right, "{authority} {usage}");
    }
    assert!(Signer::with(&key, &key, 0).is_err(), "no certificate");
}

#[test]
fn a_key_is_forgotten_before_its_certificate() {
    let folder = Folder::new("key");
    let mut signer = Signer::for_tests(&folder.0.join("signer"), 0).unwrap();
    let key = folder.0.join("signer/vroce.key");
    assert!(key.exists());
    signer.forget_key().unwrap();
    assert!(!key.exists());
    assert!(signer.certificate().is_ok());
    drop(signer);
    assert!(!folder.0.join("signer").exists());
}

#[test]
fn the_same_folder_makes_the_same_zip() {
    let folder = Folder::new("zip");
    let content = folder.0.join("content");
    std::fs::create_dir(&content).unwrap();
    for name in ["b", "a"] {
        std::fs::write(content.join(name), name.repeat(1000)).unwrap();
    }
    let first = read(&archive::pack(&content, "n", 1_700_000_000).unwrap()).unwrap();
    let sums = read(&content.join("SHA256SUMS")).unwrap();
    std::fs::remove_file(content.join("SHA256SUMS")).unwrap();
    let second = read(&archive::pack(&content, "n", 1_700_000_000).unwrap()).unwrap();
    assert_eq!(first, second);
    assert_eq!(String::from_utf8(sums).unwrap().lines().count(), 2);
    std::fs::remove_file(content.join("SHA256SUMS")).unwrap();
    let later = read(&archive::pack(&content, "n", 1_700_000_002).unwrap()).unwrap();
    assert_ne!(first, later);
}
