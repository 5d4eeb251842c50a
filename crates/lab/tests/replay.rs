//! The same seed gives the same run, in another process too, and in one whose memory other machines have used before.

use ntsim::World;
use ntsim::wire::{CaptureConfig, SwitchConfig};
use std::path::{Path, PathBuf};
use std::process::Command;
use vroce_lab::{Server, Side, finish, link};

/// Where a child process of the test is to write its capture.
const CAPTURE: &str = "VROCE_LAB_REPLAY_CAPTURE";
/// How many times it tells the story; the last one counts.
const TIMES: &str = "VROCE_LAB_REPLAY_TIMES";

/// A connection and a write, whose header carries the address of the peer's buffer.
fn story(capture: &Path) -> anyhow::Result<()> {
    let mut world = World::builder().seed(5).build();
    let switch = world.switch(SwitchConfig::default());
    let _capture = world.capture(&switch, capture, CaptureConfig::default())?;
    let a = Server::install(&mut world, &switch, "A", [10, 0, 0, 1].into())?;
    let b = Server::install(&mut world, &switch, "B", [10, 0, 0, 2].into())?;
    let (from, to) = (
        Side::open(&mut world, a, 1 << 20)?,
        Side::open(&mut world, b, 1 << 20)?,
    );
    let connection = link(&mut world, &from, &to, 445, b"", b"")?;
    let (address, token) = to.remote();
    world
        .call(a.machine, || {
            let sge = from.sge(0, 1 << 20);
            from.queues.qp.write(1, &[sge], address, token, 0)
        })
        .map_err(ntsim::ndk::Status)?;
    from.complete(&mut world, 1)?;
    connection.end(&mut world, &from, &to)?;
    from.close(&mut world)?;
    to.close(&mut world)?;
    world.uninstall(a.machine);
    world.uninstall(b.machine);
    finish(world).map(drop)
}

#[test]
fn two_processes_write_the_same_capture() {
    if let Some(path) = std::env::var_os(CAPTURE) {
        let times = std::env::var(TIMES).unwrap().parse().unwrap();
        for _ in 0..times {
            story(Path::new(&path)).unwrap();
        }
        return;
    }
    let capture = |times: u32| -> Vec<u8> {
        let path: PathBuf = std::env::temp_dir().join(format!(
            "vroce-replay-{}-{times}.pcapng",
            std::process::id()
        ));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["two_processes_write_the_same_capture", "--exact"])
            .env(CAPTURE, &path)
            .env(TIMES, times.to_string())
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        bytes
    };
    let (first, second) = (capture(1), capture(3));
    assert!(first.len() > 1 << 20, "{} bytes hold no write", first.len());
    assert!(first == second, "the captures differ");
}
