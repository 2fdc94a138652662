//! Native MLS libraries, asked and answering in JSON lines on standard input and output.
//!
//! What is measured, and on which group, is written here once for all libraries; a library only says how it does the
//! steps of `Library`. Times are taken around the work alone, bytes to bytes, and every measurement starts from a
//! copy, so that none is changed by the one before.

mod mls_rs;
mod openmls;

use std::collections::HashMap;
use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

use serde_json::{Value, json};

pub type Fallible<T> = Result<T, Box<dyn Error>>;

/// What a commit is sent as.
pub struct Sent {
    pub commit: Vec<u8>,
    pub welcome: Option<Vec<u8>>,
}

/// How one library does the steps. A member is a client with, once it has created or joined it, the group.
pub trait Library {
    type Member;

    fn client(&self, name: &str) -> Fallible<Self::Member>;
    fn copy(&self, member: &Self::Member) -> Fallible<Self::Member>;
    fn key_package(&self, member: &Self::Member) -> Fallible<Vec<u8>>;
    fn create(&self, member: &mut Self::Member) -> Fallible<()>;
    /// Commits to the adds and enters the next epoch.
    fn commit(&self, member: &mut Self::Member, adds: &[Vec<u8>], path: bool) -> Fallible<Sent>;
    /// Processes a commit and enters the next epoch.
    fn process(&self, member: &mut Self::Member, commit: &[u8]) -> Fallible<()>;
    fn join(&self, member: &mut Self::Member, welcome: &[u8]) -> Fallible<()>;
    fn send(&self, member: &mut Self::Member, text: &[u8]) -> Fallible<Vec<u8>>;
    fn receive(&self, member: &mut Self::Member, message: &[u8]) -> Fallible<Vec<u8>>;
    /// The group, as it is stored.
    fn state(&self, member: &mut Self::Member) -> Fallible<usize>;
}

/// A group of n: its first and its last member in the same epoch.
struct Group<M> {
    first: M,
    last: M,
}

/// A group right after one commit added everybody to it: all parent nodes are blank but those above the first leaf.
struct Created<M> {
    creator: M,
    packages: Vec<Vec<u8>>,
    joiner: M,
    welcome: Vec<u8>,
    group: Group<M>,
}

struct Bench<L: Library> {
    library: L,
    created: HashMap<usize, Created<L::Member>>,
    filled: HashMap<usize, Group<L::Member>>,
    invited: HashMap<usize, Group<L::Member>>,
}

const TEXT: [u8; 100] = [7; 100];

/// Adds in one commit of those that make a group: their time grows with the square.
const BATCH: usize = 1000;

/// Messages in one measurement: one alone would be little more than the clock's resolution.
const MESSAGES: u32 = 50;

impl<L: Library> Bench<L> {
    fn measure(&mut self, op: &str, n: usize) -> Fallible<Value> {
        if n < 2 {
            return Err("a group has two members at least".into());
        }
        if op == "key_package" {
            let member = self.library.client("x")?;
            let (us, package) = timed(|| self.library.key_package(&member))?;
            return Ok(json!({"us": us, "bytes": package.len()}));
        }
        if op.ends_with("_full") {
            if !self.filled.contains_key(&n) {
                let group = filled(&self.library, n)?;
                self.filled.insert(n, group);
            }
            let group = &self.filled[&n];
            return self.on_group(&op.replace("_full", "_blank"), n, group);
        }
        if !self.created.contains_key(&n) {
            let group = created(&self.library, n)?;
            self.created.insert(n, group);
        }
        let it = &self.created[&n];
        let library = &self.library;
        match op {
            "create" => {
                let mut creator = library.copy(&it.creator)?;
                let (us, sent) = timed(|| {
                    library.create(&mut creator)?;
                    library.commit(&mut creator, &it.packages, true)
                })?;
                let welcome = sent.welcome.ok_or("no Welcome")?.len();
                Ok(json!({"us": us, "bytes": sent.commit.len(), "welcome": welcome}))
            }
            "join" => {
                let mut joiner = library.copy(&it.joiner)?;
                let (us, ()) = timed(|| library.join(&mut joiner, &it.welcome))?;
                Ok(json!({"us": us, "bytes": it.welcome.len()}))
            }
            _ => self.on_group(op, n, &it.group),
        }
    }

    /// The key packages of two clients, for whoever makes a filled group out of nothing.
    fn invite(&mut self, n: usize) -> Fallible<Value> {
        let who = std::env::args().nth(1).unwrap_or_default();
        let [first, last] = ["first", "last"].map(|place| self.library.client(&format!("{place} of {who}")));
        let group = Group { first: first?, last: last? };
        let packages = [self.library.key_package(&group.first)?, self.library.key_package(&group.last)?];
        self.invited.insert(n, group);
        Ok(json!({"packages": packages.map(|package| hex(&package))}))
    }

    fn enter(&mut self, n: usize, welcome: &str) -> Fallible<Value> {
        let welcome = unhex(welcome)?;
        let mut group = self.invited.remove(&n).ok_or("nobody was invited")?;
        self.library.join(&mut group.first, &welcome)?;
        self.library.join(&mut group.last, &welcome)?;
        self.filled.insert(n, group);
        Ok(json!({}))
    }

    fn on_group(&self, op: &str, n: usize, group: &Group<L::Member>) -> Fallible<Value> {
        let library = &self.library;
        let mut first = library.copy(&group.first)?;
        let (op, path) = op.strip_suffix("_no_path").map_or((op, true), |op| (op, false));
        match op {
            "add_one" | "process_add" | "commit_blank" | "process_blank" => {
                let adds = match op {
                    "add_one" | "process_add" => {
                        vec![library.key_package(&library.client(&format!("joiner of {n}"))?)?]
                    }
                    _ => vec![],
                };
                let (mut us, sent) = timed(|| library.commit(&mut first, &adds, path))?;
                if op.starts_with("process") {
                    let mut last = library.copy(&group.last)?;
                    (us, _) = timed(|| library.process(&mut last, &sent.commit))?;
                }
                Ok(json!({"us": us, "bytes": sent.commit.len()}))
            }
            "send" => {
                library.send(&mut first, &TEXT)?;
                let mut bytes = 0;
                let (us, ()) = timed(|| {
                    for _ in 0..MESSAGES {
                        bytes = library.send(&mut first, &TEXT)?.len();
                    }
                    Ok(())
                })?;
                Ok(json!({"us": us / f64::from(MESSAGES), "bytes": bytes}))
            }
            "receive" => {
                let mut last = library.copy(&group.last)?;
                let opening = library.send(&mut first, &TEXT)?;
                if library.receive(&mut last, &opening)? != TEXT {
                    return Err("another text came out".into());
                }
                let messages = (0..MESSAGES).map(|_| library.send(&mut first, &TEXT)).collect::<Fallible<Vec<_>>>()?;
                let (us, ()) = timed(|| {
                    for message in &messages {
                        library.receive(&mut last, message)?;
                    }
                    Ok(())
                })?;
                Ok(json!({"us": us / f64::from(MESSAGES), "bytes": messages[0].len()}))
            }
            "state_bytes" => Ok(json!({"bytes": library.state(&mut library.copy(&group.last)?)?})),
            "memory_bytes" => {
                let before = heap()?;
                let kept = library.copy(&group.last)?;
                let bytes = heap()?.saturating_sub(before);
                drop(kept);
                Ok(json!({"bytes": bytes}))
            }
            _ => Err(format!("no such operation: {op}").into()),
        }
    }
}

/// The group of `create`, in several commits where it is large: the tree is the same, and one commit takes minutes.
fn created<L: Library>(library: &L, n: usize) -> Fallible<Created<L::Member>> {
    let creator = library.client("0")?;
    let clients = (1..n).map(|number| library.client(&number.to_string())).collect::<Fallible<Vec<_>>>()?;
    let packages = clients.iter().map(|client| library.key_package(client)).collect::<Fallible<Vec<_>>>()?;
    let mut first = library.copy(&creator)?;
    library.create(&mut first)?;
    let mut welcome = vec![];
    for batch in packages.chunks(BATCH) {
        welcome = library.commit(&mut first, batch, true)?.welcome.ok_or("no Welcome")?;
    }
    let joiner = clients.into_iter().next_back().ok_or("nobody else")?;
    let mut last = library.copy(&joiner)?;
    library.join(&mut last, &welcome)?;
    Ok(Created { creator, packages, joiner, welcome, group: Group { first, last } })
}

/// A group without a blank parent, in n / 2 commits and n / 2 joins, of which nobody but the first member sees all.
///
/// The newest even leaf adds the next two; the even one of these joins by its Welcome, so it need not have followed,
/// and adds the next two with its first commit, which fills its path. One leaf of every pair has then committed,
/// so every parent with members on both sides is filled, and since every subtree that takes in a new leaf beside
/// older ones holds the committer too, no leaf is left unmerged.
fn filled<L: Library>(library: &L, n: usize) -> Fallible<Group<L::Member>> {
    let mut first = library.client("0")?;
    library.create(&mut first)?;
    let mut last = library.client("last")?;
    let mut driver: Option<L::Member> = None;
    let mut size = 1;
    while size < n {
        let pair = (size..n.min(if size == 1 { 4 } else { size + 2 })).collect::<Vec<_>>();
        let mut next = library.client(&format!("driver {size}"))?;
        let mut packages = Vec::new();
        for number in &pair {
            packages.push(match number {
                _ if *number == n - 1 => library.key_package(&last)?,
                _ if number % 2 == 0 => library.key_package(&next)?,
                _ => library.key_package(&library.client(&number.to_string())?)?,
            });
        }
        let sent = library.commit(driver.as_mut().unwrap_or(&mut first), &packages, true)?;
        if driver.is_some() {
            library.process(&mut first, &sent.commit)?;
        }
        let welcome = sent.welcome.ok_or("no Welcome")?;
        size += pair.len();
        if size == n {
            library.join(&mut last, &welcome)?;
        }
        if pair.iter().any(|number| number % 2 == 0 && *number != n - 1) {
            library.join(&mut next, &welcome)?;
            driver = Some(next);
        }
    }
    if let Some(mut driver) = driver {
        let sent = library.commit(&mut driver, &[], true)?;
        library.process(&mut first, &sent.commit)?;
        library.process(&mut last, &sent.commit)?;
    }
    Ok(Group { first, last })
}

fn timed<T>(work: impl FnOnce() -> Fallible<T>) -> Fallible<(f64, T)> {
    let start = Instant::now();
    let result = black_box(work()?);
    Ok((start.elapsed().as_secs_f64() * 1e6, result))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Fallible<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(text.get(at..at + 2).ok_or("odd")?, 16)?)).collect()
}

/// What the allocator has handed out.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn heap() -> Fallible<usize> {
    let info = unsafe { libc::mallinfo2() };
    Ok(info.uordblks + info.hblkhd)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn heap() -> Fallible<usize> {
    Err("the allocator here does not tell".into())
}

pub fn serve<L: Library>(library: L) {
    let mut bench = Bench { library, created: HashMap::new(), filled: HashMap::new(), invited: HashMap::new() };
    for line in stdin().lock().lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).unwrap_or_default();
        let op = request["op"].as_str().unwrap_or_default();
        let n = request["n"].as_u64().unwrap_or_default() as usize;
        let answer = match op {
            "packages" => bench.invite(n),
            "enter" => bench.enter(n, request["welcome"].as_str().unwrap_or_default()),
            _ => bench.measure(op, n),
        };
        let answer = answer.unwrap_or_else(|error| json!({"error": format!("{error:?}")}));
        println!("{answer}");
        let _ = stdout().flush();
    }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("openmls") => serve(openmls::Openmls),
        Some("mls-rs") => mls_rs::run(),
        _ => eprintln!("which library?"),
    }
}
