//! `ibv_rc_pingpong` and `ibv_srq_pingpong`, as client and as server: queue pairs that are agreed on over TCP send a message to and
//! fro. The program's end sends every message back, as server or as client; ours sends another one each time.

use super::Host;
use super::contents::{Contents, Message, SENTINEL};
use super::wire::{DONE, Line, PORT, SHARED_LINES};
use crate::peer::PATIENCE;
use anyhow::{Context, Result, bail, ensure};
use ntsim::World;
use roce::cm::QpAttributes;
use roce::{
    Access, Completion, CompletionOp, CqId, MrKey, Path, PathMtu, PdId, Psn, QpId, QpParams,
    RegionId, Rng, SendFlags, SendOp, SendRequest, Sge, SrqId, Status,
};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Queue pairs of `ibv_srq_pingpong`, which has to be told by `-q 8`. With its 16 an emulated guest needs longer for all their packets
/// than the 67 ms that each of them waits for an acknowledgement.
const SHARING: usize = 8;

/// Receives for each queue pair.
const RECEIVES: usize = 4;

/// How long it has to be silent before we go: the program at the other end may want to hear once more what got lost.
const SILENCE: Duration = Duration::from_secs(1);

/// How often, and how long apart, a client asks for its connection.
const DIALS: usize = 50;
const BETWEEN_DIALS: Duration = Duration::from_millis(200);

/// What both programs have to be told alike.
#[derive(Clone, Copy, Debug)]
pub struct Game {
    /// Our address: the GID.
    pub address: IpAddr,
    /// Whether the queue pairs receive from a shared queue, and are many.
    pub shared: bool,
    /// Messages each way, of all queue pairs together.
    pub rounds: u64,
    /// Bytes of a message.
    pub size: usize,
    /// Path MTU.
    pub mtu: PathMtu,
}

/// Is the server of one client.
pub fn serve(world: &mut World, host: &mut Host, game: Game, seed: u64) -> Result<()> {
    let mut table = Table::lay(host, game, seed, false)?;
    host.stack.listen(PORT)?;
    out!("ready");
    host.until(world, PATIENCE, "a client", |host| {
        Ok(host.stack.is_connected().then_some(()))
    })?;
    let theirs = table.hear(world, host)?;
    let mut ours = Vec::new();
    for (player, line) in table.players.iter_mut().zip(&theirs) {
        ours.push(player.describe(host, game, Some(line.psn))?);
    }
    table.attach(host, &theirs)?;
    table.tell(host, &ours)?;
    let word = host.until(world, PATIENCE, "the client's last word", |host| {
        let mut word = [0; DONE.len()];
        Ok(host.stack.read(&mut word)?.then_some(word))
    })?;
    ensure!(word == *DONE, "the client's last word is {word:?}");
    host.stack.close();
    table.play(world, host)?;
    out!(
        "verified {} messages, answered each with another, on {} queue pairs",
        table.received,
        table.players.len()
    );
    Ok(())
}

/// Is the client of a server.
pub fn connect(
    world: &mut World,
    host: &mut Host,
    game: Game,
    seed: u64,
    to: SocketAddr,
) -> Result<()> {
    let mut table = Table::lay(host, game, seed, true)?;
    dial(world, host, to)?;
    let mut ours = Vec::new();
    for player in &mut table.players {
        ours.push(player.describe(host, game, None)?);
    }
    table.tell(host, &ours)?;
    let theirs = table.hear(world, host)?;
    for (player, line) in table.players.iter().zip(&theirs) {
        let expect = host.engine.expect_psn(player.qp, line.psn);
        expect.map_err(|error| anyhow::anyhow!("expect_psn: {error:?}"))?;
    }
    table.attach(host, &theirs)?;
    host.stack.write(DONE)?;
    host.stack.close();
    for index in 0..table.players.len() {
        table.players[index].owes = true;
        table.send(host, index)?;
    }
    table.play(world, host)?;
    out!(
        "verified {} messages that came back, on {} queue pairs",
        table.received,
        table.players.len()
    );
    Ok(())
}

/// Opens the connection over which the rest is agreed on. The server may not listen yet.
fn dial(world: &mut World, host: &mut Host, to: SocketAddr) -> Result<()> {
    for _ in 0..DIALS {
        host.stack.connect(to)?;
        let connected = host.until(world, PATIENCE, "an answer to our call", |host| {
            let refused = host.stack.is_refused();
            Ok((refused || host.stack.is_connected()).then_some(!refused))
        })?;
        if connected {
            return Ok(());
        }
        let again = world.now() + BETWEEN_DIALS;
        while world.now() < again {
            host.turn(world)?;
        }
    }
    bail!("nobody listens at {to}")
}

/// One queue pair.
struct Player {
    qp: QpId,
    /// The first PSN that it sends.
    psn: Psn,
    /// A message is on its way.
    sending: bool,
    /// One more is to be sent.
    owes: bool,
    /// Messages received.
    received: u64,
    /// The message that it sent last.
    sent: Option<Message>,
}

impl Player {
    /// What the peer has to know. The first PSN that it sends may not be known yet.
    fn describe(&mut self, host: &mut Host, game: Game, first: Option<Psn>) -> Result<Line> {
        let local = host.engine.prepare(self.qp, first);
        let local = local.map_err(|error| anyhow::anyhow!("prepare: {error:?}"))?;
        Ok(Line {
            qpn: local.qpn,
            psn: self.psn,
            address: game.address,
        })
    }
}

/// All queue pairs, and what they share.
struct Table {
    game: Game,
    contents: Contents,
    cq: CqId,
    srq: Option<SrqId>,
    key: MrKey,
    region: RegionId,
    players: Vec<Player>,
    received: u64,
    /// Messages sent, acknowledged or not.
    sent: u64,
    /// Whether we begin, as clients do.
    first: bool,
}

impl Table {
    /// Creates everything, receives included.
    fn lay(host: &mut Host, game: Game, seed: u64, first: bool) -> Result<Table> {
        fn fine<T, E: std::fmt::Debug>(result: Result<T, E>, what: &str) -> Result<T> {
            result.map_err(|error| anyhow::anyhow!("{what}: {error:?}"))
        }
        let engine = &mut host.engine;
        let count = if game.shared { SHARING } else { 1 };
        let slots = count * RECEIVES;
        let pd: PdId = fine(engine.create_pd(), "create_pd")?;
        let cq = fine(engine.create_cq(4096), "create_cq")?;
        let depth = u32::try_from(slots)?;
        let srq = if game.shared {
            Some(fine(engine.create_srq(pd, depth, 1, 0), "create_srq")?)
        } else {
            None
        };
        // Receives first, then a message to send for each queue pair.
        let region = host.memory.add(vec![SENTINEL; (slots + count) * game.size]);
        let bytes = ((slots + count) * game.size) as u64;
        let key = fine(
            engine.register(pd, 0, bytes, Access::LOCAL_WRITE, region),
            "register",
        )?;
        let mut rng = Rng::new(seed);
        let mut players = Vec::new();
        for context in 0..count {
            let params = QpParams {
                pd,
                send_cq: cq,
                recv_cq: cq,
                srq,
                sq_depth: 4,
                rq_depth: if game.shared { 0 } else { depth },
                max_send_sge: 1,
                max_recv_sge: 1,
                max_read_sge: 1,
                max_inline: 0,
                atomics: false,
                context: context as u64,
            };
            players.push(Player {
                qp: fine(engine.create_qp(&params), "create_qp")?,
                psn: Psn::new(rng.next_u32()),
                sending: false,
                owes: false,
                received: 0,
                sent: None,
            });
        }
        let table = Table {
            game,
            contents: Contents::new(seed, game.size, game.mtu.bytes() as usize),
            cq,
            srq,
            key,
            region,
            players,
            received: 0,
            sent: 0,
            first,
        };
        for slot in 0..slots {
            table.receive(host, slot)?;
        }
        Ok(table)
    }

    fn place(&self, slot: usize) -> Sge {
        Sge {
            key: self.key.0,
            va: (slot * self.game.size) as u64,
            len: self.game.size as u32,
        }
    }

    /// Posts a receive, whose memory holds nothing of a message.
    fn receive(&self, host: &mut Host, slot: usize) -> Result<()> {
        let sge = self.place(slot);
        self.bytes(host, slot)?.fill(SENTINEL);
        let posted = match self.srq {
            Some(srq) => host.engine.post_srq_recv(srq, slot as u64, &[sge]),
            None => host
                .engine
                .post_recv(host.now, self.players[0].qp, slot as u64, &[sge]),
        };
        posted.map_err(|error| anyhow::anyhow!("posting a receive: {error:?}"))
    }

    fn bytes<'a>(&self, host: &'a mut Host, slot: usize) -> Result<&'a mut [u8]> {
        let offset = (slot * self.game.size) as u64;
        let bytes = host.memory.get_mut(self.region, offset, self.game.size);
        bytes.ok().context("a slot beyond the region")
    }

    /// Where a queue pair's message to send lies.
    fn outgoing(&self, player: usize) -> usize {
        self.players.len() * RECEIVES + player
    }

    /// Says our lines.
    fn tell(&self, host: &mut Host, lines: &[Line]) -> Result<()> {
        let mut lines = lines.to_vec();
        lines.resize(self.lines(), Line::NONE);
        let bytes: Vec<u8> = lines.iter().flat_map(|line| line.to_bytes()).collect();
        host.stack.write(&bytes)
    }

    fn lines(&self) -> usize {
        if self.game.shared { SHARED_LINES } else { 1 }
    }

    /// Hears the peer's lines.
    fn hear(&self, world: &mut World, host: &mut Host) -> Result<Vec<Line>> {
        let mut bytes = vec![0; self.lines() * Line::LEN];
        host.until(world, PATIENCE, "the peer's lines", |host| {
            Ok(host.stack.read(&mut bytes)?.then_some(()))
        })?;
        let lines = bytes.as_chunks().0.iter().take(self.players.len());
        lines.map(Line::from_bytes).collect()
    }

    /// Connects each queue pair with its peer's.
    fn attach(&self, host: &mut Host, theirs: &[Line]) -> Result<()> {
        let dst_mac = host
            .stack
            .peer_mac()
            .context("the peer has no link-layer address")?;
        for (player, line) in self.players.iter().zip(theirs) {
            let attributes = QpAttributes {
                peer_qpn: line.qpn,
                path: Path {
                    src_mac: super::MAC,
                    dst_mac,
                    vlan: None,
                    src_ip: self.game.address,
                    dst_ip: line.address,
                    hop_limit: 64,
                    traffic_class: 0,
                    mtu: self.game.mtu,
                },
                send_psn: player.psn,
                retry_count: 7,
                rnr_retry_count: 7,
                // 67 ms, as the programs have it.
                ack_timeout: 14,
                responder_resources: 1,
                initiator_depth: 1,
            };
            let attached = host.engine.attach(player.qp, &attributes);
            attached.map_err(|error| anyhow::anyhow!("attach: {error:?}"))?;
        }
        Ok(())
    }

    /// Sends the message that is due, if none is on its way.
    fn send(&mut self, host: &mut Host, index: usize) -> Result<()> {
        let player = &self.players[index];
        if !player.owes || player.sending || (self.first && self.sent >= self.game.rounds) {
            return Ok(());
        }
        let slot = self.outgoing(index);
        let message = self.contents.next(self.bytes(host, slot)?);
        let sge = self.place(slot);
        let player = &mut self.players[index];
        let request = SendRequest {
            context: 0,
            op: SendOp::Send,
            sgl: &[sge],
            inline: None,
            flags: SendFlags::empty(),
        };
        let posted = host.engine.post_send(host.now, player.qp, &request);
        posted.map_err(|error| anyhow::anyhow!("posting a send: {error:?}"))?;
        (player.owes, player.sending) = (false, true);
        player.sent = Some(message);
        self.sent += 1;
        Ok(())
    }

    /// Plays to the end: all rounds received, and silence on the wire.
    fn play(&mut self, world: &mut World, host: &mut Host) -> Result<()> {
        let mut progress = host.now;
        loop {
            host.turn(world)?;
            let mut completions = [Completion::default(); 32];
            let count = host.engine.poll_cq(self.cq, &mut completions);
            for completion in &completions[..count] {
                progress = host.now;
                self.complete(host, completion)?;
            }
            let over = self.received >= self.game.rounds;
            if over && host.now.since(progress.max(host.heard)) >= SILENCE {
                return Ok(());
            }
            ensure!(
                host.now.since(progress) < PATIENCE,
                "{} of {} messages, and nothing more for {PATIENCE:?}",
                self.received,
                self.game.rounds
            );
        }
    }

    fn complete(&mut self, host: &mut Host, completion: &Completion) -> Result<()> {
        let index = usize::try_from(completion.qp_context)?;
        if completion.status != Status::Success {
            // Who has all its messages leaves without waiting for ours.
            ensure!(
                self.received >= self.game.rounds,
                "{:?} of queue pair {index} failed with {:?} after {} of {} messages",
                completion.op,
                completion.status,
                self.received,
                self.game.rounds
            );
            return Ok(());
        }
        if completion.op == CompletionOp::Send {
            self.players[index].sending = false;
            return self.send(host, index);
        }
        let slot = usize::try_from(completion.context)?;
        ensure!(
            completion.bytes as usize == self.game.size,
            "a message of {} bytes instead of {}",
            completion.bytes,
            self.game.size
        );
        let message = self.bytes(host, slot)?.to_vec();
        let player = &mut self.players[index];
        self.contents
            .check(player.sent, &message)
            .with_context(|| format!("message {} of queue pair {index}", player.received))?;
        player.received += 1;
        player.owes = true;
        self.received += 1;
        self.receive(host, slot)?;
        self.send(host, index)
    }
}
