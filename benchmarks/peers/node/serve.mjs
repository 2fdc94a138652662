// An MLS library of npm, named by the first argument, asked and answering in JSON lines on standard input and output.
//
// What is measured, and on which group, is written here once for all libraries; each has a file that exports one object
// saying how it does the steps. Work given to `trial` is timed and then forgotten, so that no measurement changes the
// next; what is given to `keep` is timed and stays. How to forget, each library knows best: a state that is a value, a
// transaction rolled back, a memory put back.

import { createInterface } from "node:readline";

const MESSAGES = 20;
const TEXT = new Uint8Array(100).fill(7);

const { library } = await import(`./${process.argv[2]}.mjs`);
const createdGroups = new Map();
const filledGroups = new Map();
const invited = new Map();

class Unsupported extends Error {}

async function measure({ op, n, ...more }) {
  if (library.lacks?.[op] !== undefined) throw new Unsupported(library.lacks[op]);
  switch (op) {
    case "packages": {
      const members = [];
      for (const who of ["first", "last"]) members.push(await library.client(`${who} of ${process.argv[2]}`));
      invited.set(n, members);
      const packages = [];
      for (const each of members) {
        packages.push(Buffer.concat([library.packageHeader ?? Buffer.of(), await packageOf(each)]).toString("hex"));
      }
      return { packages };
    }
    case "enter": {
      const [first, last] = invited.get(n);
      const welcome = Buffer.from(more.welcome, "hex");
      for (const each of [first, last]) await library.keep(each, (it) => library.join(it, welcome));
      filledGroups.set(n, { first, last });
      return {};
    }
    case "key_package": {
      const { us, result } = await library.trial(await library.client("x", true), (it) => library.keyPackage(it));
      return { us, bytes: result.length };
    }
  }
  if (op.endsWith("_full")) {
    return onGroup(op.replace("_full", "_blank"), await cached(filledGroups, n, filled));
  }
  const group = await cached(createdGroups, n, created);
  switch (op) {
    case "create": {
      const { us, result } = await library.trial(group.creator, (it) => createWith(it, group.packages));
      return { us, bytes: result.commit.length, welcome: result.welcome.length };
    }
    case "join": {
      const welcome = await unusedWelcome(group);
      const { us } = await library.trial(group.joiner, (it) => library.join(it, welcome));
      return { us, bytes: welcome.length };
    }
    case "memory_bytes": {
      const kept = []; // many where they are small: the heap has its own noise of some 100 KB
      let before;
      for (const count of [1, Math.max(4, Math.ceil(200 / n))]) {
        before = heap();
        for (let number = 0; number < count; number++) {
          kept.push({ ...group.joiner });
          await library.keep(kept.at(-1), (it) => library.join(it, group.welcome));
        }
      }
      return { bytes: Math.round((heap() - before) / (kept.length - 1)) };
    }
  }
  return onGroup(op, group);
}

async function onGroup(op, { first, last }) {
  switch (op) {
    case "add_one_no_path":
    case "process_add_no_path":
    case "commit_blank":
    case "process_blank": {
      const adds = op.includes("add") ? [await packageOf(await library.client("one more", true))] : [];
      const made = await library.trial(first, (it) => library.commit(it, adds));
      const commit = made.result.commit;
      if (!op.startsWith("process")) return { us: made.us, bytes: commit.length };
      return { us: (await library.trial(last, (it) => library.process(it, commit))).us, bytes: commit.length };
    }
    case "send":
    case "receive": {
      let [sent, received, bytes] = [0, 0, 0];
      for (let number = 0; number <= MESSAGES; number++) {
        const { us: sending, result: message } = await library.keep(first, (it) => library.send(it, TEXT));
        const { us: receiving, result: text } = await library.keep(last, (it) => library.receive(it, message));
        if (Buffer.compare(text, TEXT) !== 0) throw new Error("another text came out");
        if (number === 0) continue; // the first of an epoch also derives where its sender begins
        sent += sending;
        received += receiving;
        bytes = message.length;
      }
      return { us: (op === "send" ? sent : received) / MESSAGES, bytes };
    }
    case "state_bytes":
      return { bytes: library.stateBytes(last) };
  }
  throw new Unsupported(`no such operation: ${op}`);
}

async function packageOf(client) {
  return (await library.keep(client, (it) => library.keyPackage(it))).result;
}

// Everybody in one commit, or one by one where the library adds one at a time.
async function createWith(creator, packages) {
  await library.create(creator);
  if (!library.oneByOne) return library.commit(creator, packages);
  let sent;
  for (const each of packages) sent = await library.commit(creator, [each]);
  return sent;
}

async function created(n) {
  const creator = await library.client("0");
  const first = library.another?.(creator) ?? { ...creator };
  const packages = [];
  let joiner;
  for (let number = 1; number < n; number++) {
    joiner = await library.client(String(number), number < n - 1);
    packages.push(await packageOf(joiner));
  }
  const welcome = (await library.keep(first, (it) => createWith(it, packages))).result.welcome;
  const last = library.another?.(joiner) ?? { ...joiner };
  await library.keep(last, (it) => library.join(it, welcome));
  return { creator, packages, welcome, joiner, first, last };
}

// A client that is no value has used up its key package: it is invited once more, to a group like the other.
async function unusedWelcome(group) {
  if (library.another === undefined) return group.welcome;
  if (group.unused === undefined) {
    const packages = [...group.packages.slice(0, -1), await packageOf(group.joiner)];
    const creator = library.another(group.creator);
    group.unused = (await library.keep(creator, (it) => createWith(it, packages))).result.welcome;
  }
  return group.unused;
}

// A group without a blank parent, in about n / 2 joins and n commits, of which nobody but the first member sees all.
//
// The newest even leaf joins by its Welcome, so it need not have followed, fills its path with an empty commit, and
// adds the next two. These are unmerged above it until the even one of them does the same. One leaf of every pair has
// then filled its path.
async function filled(n) {
  const first = await library.client("0");
  await library.keep(first, (it) => library.create(it));
  const last = await library.client("last");
  const commit = async (member, adds) => {
    const sent = (await library.keep(member, (it) => library.commit(it, adds))).result;
    if (member !== first) await library.keep(first, (it) => library.process(it, sent.commit));
    return sent;
  };
  let driver = first;
  for (let size = 1; size < n; ) {
    const numbers = size === 1 ? [1, 2, 3] : [size, size + 1];
    const packages = [];
    let next;
    for (const number of numbers.filter((each) => each < n)) {
      const client = number === n - 1 ? last : await library.client(String(number), number % 2 === 1);
      if (number % 2 === 0 && client !== last) next = client;
      packages.push(await packageOf(client));
    }
    if (size > 1) await commit(driver, []);
    const { welcome } = await commit(driver, packages);
    size += packages.length;
    if (size === n) await library.keep(last, (it) => library.join(it, welcome));
    if (next !== undefined) {
      await library.keep(next, (it) => library.join(it, welcome));
      driver = next;
    }
  }
  const { commit: final } = await commit(driver, []);
  await library.keep(last, (it) => library.process(it, final));
  return { first, last };
}

async function cached(groups, n, make) {
  if (!(n >= 2)) throw new Error("a group has two members at least");
  if (!groups.has(n)) groups.set(n, await make(n));
  return groups.get(n);
}

function heap() {
  globalThis.gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = await measure(JSON.parse(line));
  } catch (error) {
    answer = error instanceof Unsupported ? { unsupported: error.message } : { error: String(error?.stack ?? error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
process.exit(0);
