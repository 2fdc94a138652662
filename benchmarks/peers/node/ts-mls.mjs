// ts-mls over the WebCrypto of node, without its padding. Its states are values: forgetting is not keeping one.

import * as mls from "ts-mls";
import { defaultClientConfig } from "ts-mls/clientConfig.js";

const suite = await mls.getCiphersuiteImpl(
  mls.getCiphersuiteFromName("MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"),
);
const config = { ...defaultClientConfig, paddingConfig: { kind: "alwaysPad", paddingLength: 0 } };
const NO_PATH = "its adds have no path, and nothing of its own forces one";

export const library = {
  lacks: { add_one: NO_PATH, process_add: NO_PATH },

  async client(name) {
    return { name, keys: await suite.signature.keygen() };
  },

  trial: (member, work) => timed(() => work({ ...member })),
  keep: (member, work) => timed(() => work(member)),

  async keyPackage(member) {
    const credential = { credentialType: "basic", identity: new TextEncoder().encode(member.name) };
    member.package = await mls.generateKeyPackageWithKey(
      credential, mls.defaultCapabilities(), mls.defaultLifetime, [], member.keys, suite,
    );
    return mls.encodeMlsMessage({
      version: "mls10", wireformat: "mls_key_package", keyPackage: member.package.publicPackage,
    });
  },

  async create(member) {
    if (member.package === undefined) await this.keyPackage(member);
    const { publicPackage, privatePackage } = member.package;
    member.state = await mls.createGroup(crypto.getRandomValues(new Uint8Array(16)), publicPackage, privatePackage, [],
      suite, config);
  },

  async commit(member, adds) {
    const extraProposals = adds.map((bytes) => ({
      proposalType: "add", add: { keyPackage: decode(bytes).keyPackage },
    }));
    const made = await mls.createCommit({ state: member.state, cipherSuite: suite },
      { extraProposals, ratchetTreeExtension: true });
    member.state = made.newState;
    return {
      commit: mls.encodeMlsMessage(made.commit),
      welcome: made.welcome &&
        mls.encodeMlsMessage({ version: "mls10", wireformat: "mls_welcome", welcome: made.welcome }),
    };
  },

  async process(member, commit) {
    const done = await mls.processPrivateMessage(member.state, decode(commit).privateMessage, mls.emptyPskIndex, suite);
    if (done.kind !== "newState") throw new Error("not a commit");
    member.state = done.newState;
  },

  async join(member, welcome) {
    const { publicPackage, privatePackage } = member.package;
    member.state = await mls.joinGroup(decode(welcome).welcome, publicPackage, privatePackage, mls.emptyPskIndex, suite,
      undefined, undefined, config);
  },

  async send(member, text) {
    const made = await mls.createApplicationMessage(member.state, text, suite);
    member.state = made.newState;
    return mls.encodeMlsMessage({
      version: "mls10", wireformat: "mls_private_message", privateMessage: made.privateMessage,
    });
  },

  async receive(member, message) {
    const { privateMessage } = decode(message);
    const done = await mls.processPrivateMessage(member.state, privateMessage, mls.emptyPskIndex, suite);
    member.state = done.newState;
    return done.message;
  },

  stateBytes: (member) => mls.encodeGroupState(member.state).length,
};

async function timed(work) {
  const start = performance.now();
  const result = await work();
  return { us: (performance.now() - start) * 1000, result };
}

function decode(bytes) {
  const decoded = mls.decodeMlsMessage(new Uint8Array(bytes), 0);
  if (decoded === undefined) throw new Error("undecodable");
  return decoded[0];
}
