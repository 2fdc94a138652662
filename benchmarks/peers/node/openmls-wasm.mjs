// The demonstration binding of OpenMLS to WebAssembly: adds one at a time, and the tree goes beside the Welcome.
//
// It forgets nothing, so its whole memory is put back. What it made in between must then not be freed by a finalizer.

import { readFile } from "node:fs/promises";

globalThis.FinalizationRegistry = undefined;
const binding = await import(new URL("./openmls_wasm_bg.js", import.meta.resolve("openmls-wasm")));
const { instance } = await WebAssembly.instantiate(
  await readFile(new URL("./openmls_wasm_bg.wasm", import.meta.resolve("openmls-wasm"))),
  { "./openmls_wasm_bg.js": binding },
);
const memory = instance.exports.memory;
binding.__wbg_set_wasm(instance.exports);
instance.exports.__wbindgen_start();

const ADDS = "it adds one at a time";
const NO_PATH = "its adds have no path, and nothing of its own forces one";
const UNREAD = "it does not read the commits that it makes: they refer to proposals, which it does not take in";
const ONLY_ADDS = "it has no commits but adds";
const NOT_SHOWN = "it does not show its state";

async function timed(work) {
  const start = performance.now();
  const result = await work();
  return { us: (performance.now() - start) * 1000, result };
}

export const library = {
  lacks: {
    create: ADDS, add_one: NO_PATH, process_add: NO_PATH, process_add_no_path: UNREAD,
    commit_blank: ONLY_ADDS, process_blank: ONLY_ADDS, commit_full: ONLY_ADDS, process_full: ONLY_ADDS,
    state_bytes: NOT_SHOWN, memory_bytes: NOT_SHOWN,
  },
  oneByOne: true,

  async client(name) {
    const provider = new binding.Provider();
    return { provider, identity: new binding.Identity(provider, name) };
  },

  another: (member) => ({ ...member }),

  async trial(member, work) {
    const before = new Uint8Array(memory.buffer).slice();
    try {
      return await timed(() => work({ ...member }));
    } finally {
      const now = new Uint8Array(memory.buffer);
      now.set(before);
      now.fill(0, before.length);
    }
  },

  keep: (member, work) => timed(() => work(member)),

  keyPackage: ({ provider, identity }) => identity.key_package(provider),

  create(member) {
    member.group = binding.Group.create_new(member.provider, member.identity, crypto.randomUUID());
  },

  commit({ group, provider, identity }, [add]) {
    const sent = group.propose_and_commit_add(provider, identity, add);
    group.merge_pending_commit(provider);
    const trees = [group.export_ratchet_tree(), group.export_ratchet_tree()];
    return { commit: sent.commit, welcome: { welcome: sent.welcome, trees } };
  },

  // A join takes its tree away: one that stays uses up a tree, one on trial only a handle, as memory is put back.
  join(member, { welcome, trees }) {
    const tree = trees.length > 1 ? trees.pop() : Object.assign(Object.create(binding.RatchetTree.prototype), trees[0]);
    member.group = binding.Group.join(member.provider, welcome, tree);
  },

  send: ({ group, provider, identity }, text) => group.create_message(provider, identity, text),

  receive: ({ group, provider }, message) => group.process_message(provider, message),
};
