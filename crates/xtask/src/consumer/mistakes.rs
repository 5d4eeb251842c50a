//! Mistakes in the example's sources, and what the report of each must say: the wrong line of the source above all.

use super::{build_from, source};
use crate::workspace::target;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// A line of the sources that is replaced with a wrong one, and the report of that.
pub struct Mistake {
    pub name: &'static str,
    file: &'static str,
    /// What the line contains, as no other of the file does.
    right: &'static str,
    /// What is in its place.
    wrong: &'static str,
    pub arguments: &'static [&'static str],
    /// What must be in the output. `FILE@TEXT@` stands for the file and the number of the first line that contains the text.
    pub says: &'static [&'static str],
    /// What must not.
    pub not: &'static [&'static str],
}

pub const MISTAKES: [Mistake; 12] = [
    Mistake {
        name: "a null pointer written through in a function that is inlined",
        file: "client.c",
        right: "question->Round = Number;",
        wrong: "*(volatile ULONG *)NULL = Number;",
        arguments: &[],
        says: &[
            "rule access-violation broken by driver consumer",
            "  in consumer.sys!Round (client.c@volatile ULONG *)NULL@), inlined in ClientRun+",
            " (client.c@status = Round(client, round)@)\n    called from consumer.sys!ConsumerThread+",
            " (driver.c@ServerRun(consumer) : ClientRun(consumer)@)",
        ],
        not: &["fault.rs"],
    },
    Mistake {
        name: "no close waited for",
        file: "wait.c",
        right: "CallEnd(&call, Close(Object, CallClosed, &call));",
        wrong: "Close(Object, CallClosed, &call);",
        arguments: &[],
        says: &[
            "rule ndk.consumer-context broken by the NDK consumer",
            "it was made in consumer.sys!CloseAndWait+",
            "(wait.c@    Close(Object, CallClosed@)",
        ],
        not: &[],
    },
    Mistake {
        name: "no call waited for",
        file: "wait.c",
        right: "    KeWaitForSingleObject(&Call->Done, Executive, KernelMode, FALSE, NULL);",
        wrong: "",
        arguments: &[],
        says: &["rule ndk.consumer-context broken by the NDK consumer"],
        not: &[],
    },
    Mistake {
        name: "a disconnect not waited for",
        file: "endpoint.c",
        right: "REQUEST(status, Endpoint->Connector->Dispatch->NdkDisconnect, Endpoint->Connector);",
        wrong: "CALL call; CallBegin(&call); \
                status = Endpoint->Connector->Dispatch->NdkDisconnect(Endpoint->Connector, CallDone, &call);",
        arguments: &[],
        says: &[
            "rule ndk.consumer-context broken by the NDK consumer: NdkDisconnect on connector 1 of vroce on A completes, but its context",
            "it was made in consumer.sys!EndpointDisconnect+",
            "(endpoint.c@CallBegin(&call)@), called from consumer.sys!ClientRun+",
        ],
        not: &[],
    },
    Mistake {
        name: "a token that is none",
        file: "endpoint.c",
        right: "element.MemoryRegionToken = Endpoint->LocalToken;",
        wrong: "element.MemoryRegionToken = 0x1234;",
        arguments: &[],
        says: &[
            "not printed within 10 s: \"were written, answered and read back\"",
            "A cpu 0 irql  0 NdkSend on QP 1: STATUS_CONNECTION_INVALID (0xc000023a)",
            "B cpu 0 irql  2 a request's result on QP 1: STATUS_CANCELLED (0xc0000120)",
            "--seed 1 --interleave 0 --pend 2 --processors 1",
            "error: no driver printed \"were written, answered and read back\" within 10 s",
        ],
        not: &[],
    },
    Mistake {
        name: "a queue that is not armed",
        file: "client.c",
        right: "        cq->Dispatch->NdkArmCq(cq, NDK_CQ_NOTIFY_ANY);",
        wrong: "",
        arguments: &[],
        says: &[
            "NDK calls and requests that failed: none",
            "on A: KeWaitForMultipleObjects waits for one of the objects at",
            "CQ 1 of vroce on A is not armed and notifies nobody; 3 request(s) that complete there have no result taken",
        ],
        not: &[],
    },
    Mistake {
        name: "no use of NDK",
        file: "driver.c",
        right: "NTSTATUS status = AdapterOpen(&consumer->Adapter, consumer->Settings.Local);",
        wrong: "NTSTATUS status = STATUS_NOT_SUPPORTED;",
        arguments: &["--expect", "server ended with"],
        says: &[
            "warning: the driver on A called no function of NDK",
            "error: no driver called NDK: nothing was tested",
        ],
        not: &["no driver printed"],
    },
    Mistake {
        name: "memory that is not freed",
        file: "endpoint.c",
        right: "if (Endpoint->Mdl) IoFreeMdl(Endpoint->Mdl);",
        wrong: "",
        arguments: &[],
        says: &[
            "rule pool-leak broken: after DriverUnload: A: consumer has 1 block(s)",
            "tag 'Mdl ', from IoAllocateMdl\n    allocated in consumer.sys!Register (endpoint.c@IoAllocateMdl@), inlined in EndpointCreate+",
            " (endpoint.c@return Register(Endpoint, BlockSize);@)\n      called from consumer.sys!ClientRun+",
            " (client.c@EndpointCreate(&client->Endpoint@)",
            "rule pool-leak broken: after DriverUnload: B: consumer has 1 block(s)",
        ],
        not: &["which is unloaded"],
    },
    Mistake {
        name: "memory written to after it was freed, small enough to be found by its contents",
        file: "client.c",
        right: "ExFreePoolWithTag(client, TAG);",
        wrong: "ExFreePoolWithTag(client, TAG); *(volatile ULONG *)&client->Dead = 1;",
        arguments: &[],
        says: &[
            "rule pool-use-after-free broken",
            "    allocated in consumer.sys!ClientRun+",
            " (client.c@CLIENT *client = ExAllocatePool2@)",
            "    freed in consumer.sys!ClientRun+",
            " (client.c@ExFreePoolWithTag(client, TAG)@)\n      called from consumer.sys!ConsumerThread+",
        ],
        not: &[],
    },
    Mistake {
        name: "a lock that a callback keeps",
        file: "server.c",
        right: "if (taken) server->Waiting = Connector;\n    KeReleaseInStackQueuedSpinLock(&lock);",
        wrong: "if (taken) server->Waiting = Connector;",
        arguments: &[],
        says: &[
            "rule lock-at-return broken by driver consumer",
            "acquired by KeAcquireInStackQueuedSpinLock in consumer.sys!OnConnect+",
            " (server.c@KeAcquireInStackQueuedSpinLock(&server->Lock, &lock)@)",
        ],
        not: &[],
    },
    Mistake {
        name: "memory that is registered while its domain is closed",
        file: "endpoint.c",
        right: "if (Endpoint->Mr) CloseAndWait(Endpoint->Mr->Dispatch->NdkCloseMr, Endpoint->Mr);",
        wrong: "",
        arguments: &[],
        says: &[
            "rule deadlock broken",
            " is on the stack of kernel thread ",
            "    it waits in consumer.sys!CallEnd",
            " (wait.c@KeWaitForSingleObject@)",
            "      called from consumer.sys!EndpointClose+",
            " (endpoint.c@NdkClosePd@)",
            " is a system thread, which began in consumer.sys!ConsumerThread",
            "    it waits in consumer.sys!DriverUnload+",
        ],
        not: &["which is unloaded"],
    },
    Mistake {
        name: "a driver that goes without waiting for its thread",
        file: "driver.c",
        right: "    KeSetEvent(&consumer->Stop, IO_NO_INCREMENT, FALSE);",
        wrong: "    return;",
        arguments: &[
            "--set",
            "A:PeerAddress=10.0.0.9",
            "--seconds",
            "1",
            "--expect",
            "never",
        ],
        says: &[
            "rule thread-at-unload broken: after DriverUnload: ",
            "has not ended, which began in consumer.sys!ConsumerThread+0x0 (driver.c",
            "    it waits in consumer.sys!",
            "      called from consumer.sys!ConsumerThread+",
        ],
        not: &[],
    },
];

impl Mistake {
    /// Builds the example with it. Gives the image.
    pub fn build(&self, clang: &Path) -> Result<PathBuf> {
        let out = target()?.join("consumer/mistake");
        // Nothing of another mistake's is left.
        if out.exists() {
            std::fs::remove_dir_all(&out).with_context(|| out.display().to_string())?;
        }
        let sources = out.join("source");
        copy(&source(), &sources)?;
        let file = sources.join(self.file);
        let text = std::fs::read_to_string(&file)?;
        let (before, after) = (self.right, self.wrong);
        ensure!(
            text.matches(before).count() == 1,
            "{before:?} is not once in {}",
            self.file
        );
        std::fs::write(&file, text.replace(before, after))?;
        build_from(clang, &sources, &out)
    }

    /// What must be in the output, with the numbers of lines in the sources it was built from.
    pub fn expected(&self) -> Result<Vec<String>> {
        let sources = target()?.join("consumer/mistake/source");
        let all = self.says.iter();
        all.map(|part| with_lines(part, &sources)).collect()
    }
}

/// Puts a number in place of each `@TEXT@` behind a file's name.
fn with_lines(part: &str, sources: &Path) -> Result<String> {
    let mut said = String::new();
    let mut rest = part;
    while let Some((before, marked)) = rest.split_once('@') {
        let (text, after) = marked.split_once('@').context("@TEXT@")?;
        let word = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let file = before.rsplit(|c| !word(c)).next().unwrap_or_default();
        let source = std::fs::read_to_string(sources.join(file))
            .with_context(|| format!("{file:?} of {part:?}"))?;
        let line = source.lines().position(|line| line.contains(text));
        let line = line.with_context(|| format!("{text:?} is not in {file}"))? + 1;
        said += &format!("{before}:{line}");
        rest = after;
    }
    Ok(said + rest)
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
