// One process, many ts-mls clients, driven by JSON lines: `{"op": ..., ...}` in, one answer a line out, in order.
// Byte strings are hex. What ts-mls throws is answered as `{"error": text}` and, its states being values, changes nothing.
//
// The argument is the folder in which the packages of package.json are installed.

import { createRequire } from "node:module"
import { resolve } from "node:path"
import { createInterface } from "node:readline"
import { pathToFileURL } from "node:url"

const packages = createRequire(resolve(process.argv[2], "package.json"))
const load = (name) => import(pathToFileURL(packages.resolve(name)))

const mls = await load("ts-mls")
const { encodeRatchetTree, decodeRatchetTree } = await load("ts-mls/ratchetTree.js")
const { signLeafNodeCommit } = await load("ts-mls/leafNode.js")
const { getOwnLeafNode } = await load("ts-mls/clientState.js")
const { createGroupInfo } = await load("ts-mls/createCommit.js")
const { encode } = await load("ts-mls/codec/tlsEncoder.js")
const { varLenDataEncoder, decodeVarLenData } = await load("ts-mls/codec/variableLength.js")
const { p256, p384, p521 } = await load("@noble/curves/nist.js")

const VERSION = "mls10"

// RFC 9420 section 13.5: everybody must carry values that nobody knows, so every client here lists some.
const GREASE = 0x0a0a

const hex = (bytes) => Buffer.from(bytes).toString("hex")
const bytes = (text) => new Uint8Array(Buffer.from(text ?? "", "hex"))
const suiteName = (id) => Object.keys(mls.ciphersuites).find((name) => mls.ciphersuites[name] === id)
const suiteImpl = (id) => mls.getCiphersuiteImpl(mls.getCiphersuiteFromName(suiteName(id)))
const extensionName = (type) =>
  Object.keys(mls.defaultExtensionTypes).find((name) => mls.defaultExtensionTypes[name] === type) ?? type
const extensions = (list = []) =>
  list.map(([type, data]) => ({ extensionType: extensionName(type), extensionData: bytes(data) }))

function decode(decoder, text) {
  const data = bytes(text)
  const [value, length] = decoder(data, 0) ?? []
  if (value === undefined) throw new Error("undecodable")
  if (length !== data.length) throw new Error(`${data.length - length} trailing bytes`)
  return value
}

function decodeMessage(text, wireformat) {
  const message = decode(mls.decodeMlsMessage, text)
  if (wireformat !== undefined && message.wireformat !== wireformat)
    throw new Error(`expected ${wireformat}, not ${message.wireformat}`)
  return message
}

const encodeMessage = (wireformat, body) => hex(mls.encodeMlsMessage({ version: VERSION, wireformat, ...body }))
const decodeTree = (text) => (text ? decode(decodeRatchetTree, text) : undefined)

// ts-mls makes compressed points, though section 5.1.1 asks for uncompressed ones; it reads both.
const CURVES = { 2: p256, 5: p521, 7: p384 }

async function makeSignatureKeys(suite, impl) {
  const { signKey, publicKey } = await impl.signature.keygen()
  return { signKey, publicKey: CURVES[suite]?.getPublicKey(signKey, false) ?? publicKey }
}

// ExternalPub (section 12.4.3.2) is an HPKEPublicKey, which has a length of its own. ts-mls writes none and reads none.
const externalPubFramed = (data) => ({ extensionType: "external_pub", extensionData: encode(varLenDataEncoder)(data) })

function unframingExternalPub(impl, groupInfo) {
  const framed = groupInfo.extensions.find((each) => each.extensionType === "external_pub")?.extensionData
  const importPublicKey = (key) => impl.hpke.importPublicKey(key === framed ? decode(decodeVarLenData, hex(key)) : key)
  return { ...impl, hpke: { ...impl.hpke, importPublicKey } }
}

class Client {
  constructor(suite, name, lifetime, signatureKeys, impl) {
    Object.assign(this, { suite, name, lifetime, signatureKeys, impl })
    this.keyPackages = [] // made and not yet joined with
    this.updates = new Map() // encryption key of an Update of ours -> its private key
    this.psks = {}
    this.state = undefined
  }

  async makeKeyPackage(wanted) {
    const suite = wanted ?? this.suite
    const impl = await suiteImpl(suite)
    return mls.generateKeyPackageWithKey(
      { credentialType: "basic", identity: new TextEncoder().encode(this.name) },
      {
        versions: [VERSION],
        ciphersuites: [suiteName(suite), String(GREASE)],
        extensions: [GREASE],
        proposals: [GREASE],
        credentials: ["basic", String(GREASE)],
      },
      this.lifetime,
      extensions([[GREASE, "00"]]),
      suite === this.suite ? this.signatureKeys : await makeSignatureKeys(suite, impl),
      impl,
      extensions([[GREASE, ""]]),
    )
  }

  async newKeyPackage(suite) {
    const made = await this.makeKeyPackage(suite)
    this.keyPackages.push(made)
    return made.publicPackage
  }

  pskIndex(state = this.state) {
    return mls.makePskIndex(state, this.psks)
  }

  advance(state) {
    this.state = state
    this.updates.clear()
  }

  enter(state, { publicPackage, privatePackage }, impl) {
    this.suite = mls.ciphersuites[publicPackage.cipherSuite]
    this.signatureKeys = {
      publicKey: publicPackage.leafNode.signaturePublicKey,
      signKey: privatePackage.signaturePrivateKey,
    }
    this.impl = impl
    this.advance(state)
  }

  leafNodeIndex() {
    return 2 * this.state.privatePath.leafIndex
  }

  async proposal(wanted) {
    switch (wanted.type) {
      case "Add":
        return { proposalType: "add", add: { keyPackage: decodeMessage(wanted.key_package, "mls_key_package").keyPackage } }
      case "Remove":
        return { proposalType: "remove", remove: { removed: wanted.leaf } }
      case "Update":
        return { proposalType: "update", update: { leafNode: await this.updatedLeaf() } }
      case "ExternalPsk":
        return this.pskProposal({ psktype: "external", pskId: bytes(wanted.psk_id) })
      case "ResumptionPsk":
        return this.pskProposal({
          psktype: "resumption",
          usage: "application",
          pskGroupId: this.state.groupContext.groupId,
          pskEpoch: BigInt(wanted.epoch),
        })
      case "ReInit":
        return {
          proposalType: "reinit",
          reinit: {
            groupId: bytes(wanted.group_id),
            version: VERSION,
            cipherSuite: suiteName(wanted.suite),
            extensions: extensions(wanted.extensions),
          },
        }
      case "GroupContextExtensions":
        return {
          proposalType: "group_context_extensions",
          groupContextExtensions: { extensions: extensions(wanted.extensions) },
        }
      case "Custom":
        return { proposalType: wanted.proposal_type, proposalData: bytes(wanted.data) }
      default:
        throw new Error(`no proposal ${wanted.type}`)
    }
  }

  pskProposal(id) {
    const pskNonce = this.impl.rng.randomBytes(this.impl.kdf.size)
    return { proposalType: "psk", psk: { preSharedKeyId: { ...id, pskNonce } } }
  }

  // ts-mls makes no Updates of its own: the leaf is made and signed here, its private key kept until a Commit uses it.
  async updatedLeaf() {
    const keys = await this.impl.hpke.generateKeyPair()
    const { credential, capabilities, extensions, signaturePublicKey } = getOwnLeafNode(this.state)
    const hpkePublicKey = await this.impl.hpke.exportPublicKey(keys.publicKey)
    this.updates.set(hex(hpkePublicKey), await this.impl.hpke.exportPrivateKey(keys.privateKey))
    const { groupId } = this.state.groupContext
    const { leafIndex } = this.state.privatePath
    const leafNodeSource = "update"
    return signLeafNodeCommit(
      { hpkePublicKey, signaturePublicKey, credential, capabilities, leafNodeSource, extensions, groupId, leafIndex },
      this.state.signaturePrivateKey,
      this.impl.signature,
    )
  }

  read(state, message, callback) {
    if (message.wireformat === "mls_public_message")
      return mls.processPublicMessage(state, message.publicMessage, this.pskIndex(), this.impl, callback)
    if (message.wireformat === "mls_private_message")
      return mls.processPrivateMessage(state, message.privateMessage, this.pskIndex(), this.impl, callback)
    throw new Error(`cannot process ${message.wireformat}`)
  }

  // The state in which to read a Commit. One that holds an Update of ours is read with the new leaf's key alone, since
  // the Update blanked every node above the leaf; which Update it holds, a reading that is rejected tells.
  async readingState(message) {
    let state = this.state
    if (this.updates.size > 0)
      await this.read(this.state, message, ({ kind, proposals }) => {
        const own = (proposals ?? []).find(
          (each) =>
            each.proposal.proposalType === "update" && each.senderLeafIndex === this.state.privatePath.leafIndex,
        )
        const key = own && this.updates.get(hex(own.proposal.update.leafNode.hpkePublicKey))
        if (kind === "commit" && key)
          state = { ...state, privatePath: { ...state.privatePath, privateKeys: { [this.leafNodeIndex()]: key } } }
        return "reject"
      })
    return state
  }

  // The key package that a Welcome is for: the one whose join succeeds.
  async join(welcome, tree, resuming) {
    let failure = new Error("no key package to join with")
    for (const [i, pair] of this.keyPackages.entries()) {
      const { publicPackage, privatePackage } = pair
      const impl = await mls.getCiphersuiteImpl(mls.getCiphersuiteFromName(publicPackage.cipherSuite))
      try {
        const psks = this.pskIndex(resuming)
        const state = await mls.joinGroup(welcome, publicPackage, privatePackage, psks, impl, tree, resuming)
        this.keyPackages.splice(i, 1)
        return this.enter(state, pair, impl)
      } catch (error) {
        failure = error
      }
    }
    throw failure
  }
}

const clients = []

const operations = {
  async client({ suite, name, lifetime }) {
    const [notBefore, notAfter] = lifetime.map(BigInt)
    const impl = await suiteImpl(suite)
    clients.push(new Client(suite, name, { notBefore, notAfter }, await makeSignatureKeys(suite, impl), impl))
    return { client: clients.length - 1 }
  },

  async key_package(client, { suite }) {
    return { key_package: encodeMessage("mls_key_package", { keyPackage: await client.newKeyPackage(suite) }) }
  },

  async create_group(client, request) {
    const pair = await client.makeKeyPackage()
    const { publicPackage, privatePackage } = pair
    const list = extensions(request.extensions)
    const state = await mls.createGroup(bytes(request.group_id), publicPackage, privatePackage, list, client.impl)
    client.enter(state, pair, client.impl)
    return {}
  },

  async store_psk(client, { psk_id, psk }) {
    client.psks[mls.bytesToBase64(bytes(psk_id))] = bytes(psk)
    return {}
  },

  async propose(client, { proposal, public: isPublic, authenticated_data }) {
    const made = await client.proposal(proposal)
    const result = await mls.createProposal(client.state, isPublic, made, client.impl, bytes(authenticated_data))
    client.state = result.newState
    return { message: hex(mls.encodeMlsMessage(result.message)) }
  },

  // Everything proposed by reference is committed too: ts-mls leaves no choice.
  async commit(client, { proposals, public: isPublic, with_tree, authenticated_data }) {
    const extraProposals = await Promise.all(proposals.map((each) => client.proposal(each)))
    const { newState, commit, welcome } = await mls.createCommit(
      { state: client.state, cipherSuite: client.impl, pskIndex: client.pskIndex() },
      {
        extraProposals,
        wireAsPublicMessage: isPublic,
        ratchetTreeExtension: with_tree,
        authenticatedData: bytes(authenticated_data),
      },
    )
    client.advance(newState)
    return { commit: hex(mls.encodeMlsMessage(commit)), welcome: welcome && encodeMessage("mls_welcome", { welcome }) }
  },

  async process(client, request) {
    const message = decodeMessage(request.message)
    const epoch = client.state.groupContext.epoch
    const state = await client.readingState(message)
    const result = await client.read(state, message)
    if (result.kind === "applicationMessage") {
      client.state = result.newState
      return { kind: "application", data: hex(result.message) }
    }
    const removed = result.newState.groupActiveState.kind === "removedFromGroup"
    if (result.newState.groupContext.epoch === epoch && !removed) {
      client.state = result.newState
      return { kind: "proposal" }
    }
    client.advance(result.newState)
    return { kind: "commit", removed }
  },

  async encrypt(client, { data, authenticated_data }) {
    const { state, impl } = client
    const result = await mls.createApplicationMessage(state, bytes(data), impl, bytes(authenticated_data))
    client.state = result.newState
    return { message: encodeMessage("mls_private_message", { privateMessage: result.privateMessage }) }
  },

  // `resume`: the Welcome continues the group that the client is in (a reinitialisation or a branch of it).
  async join(client, { welcome, tree, resume }) {
    const message = decodeMessage(welcome, "mls_welcome")
    await client.join(message.welcome, decodeTree(tree), resume ? client.state : undefined)
    return {}
  },

  async group_info(client, { with_tree }) {
    const { state, impl } = client
    const { publicKey } = await impl.hpke.deriveKeyPair(state.keySchedule.externalSecret)
    const list = [externalPubFramed(await impl.hpke.exportPublicKey(publicKey))]
    if (with_tree) list.push({ extensionType: "ratchet_tree", extensionData: encodeRatchetTree(state.ratchetTree) })
    const groupInfo = await createGroupInfo(state.groupContext, state.confirmationTag, state, list, impl)
    return { group_info: encodeMessage("mls_group_info", { groupInfo }) }
  },

  async ratchet_tree(client) {
    return { tree: hex(encodeRatchetTree(client.state.ratchetTree)) }
  },

  async external_commit(client, { group_info, tree, resync }) {
    const { groupInfo } = decodeMessage(group_info, "mls_group_info")
    const pair = await client.makeKeyPackage()
    const { publicPackage, privatePackage } = pair
    const impl = unframingExternalPub(client.impl, groupInfo)
    const external = [groupInfo, publicPackage, privatePackage, resync, impl, decodeTree(tree)]
    const result = await mls.joinGroupExternal(...external)
    client.enter(result.newState, pair, client.impl)
    return { commit: encodeMessage("mls_public_message", { publicMessage: result.publicMessage }) }
  },

  async propose_to_join(client, { group_info }) {
    const { groupInfo } = decodeMessage(group_info, "mls_group_info")
    const pair = await client.makeKeyPackage()
    const message = await mls.proposeAddExternal(groupInfo, pair.publicPackage, pair.privatePackage, client.impl)
    client.keyPackages.push(pair)
    return { message: hex(mls.encodeMlsMessage(message)) }
  },

  // Sections 11.2 and 11.3: a new group, at epoch 1, under a secret of the one that the client is in.
  async succeed(client, { usage, group_id, key_packages, suite, extensions: list }) {
    const others = key_packages.map((each) => decodeMessage(each, "mls_key_package").keyPackage)
    const pair = await client.makeKeyPackage(suite)
    const impl = await suiteImpl(suite)
    const own = [client.state, pair.publicPackage, pair.privatePackage, others, bytes(group_id)]
    const { newState, welcome } = await (usage === "branch"
      ? mls.branchGroup(...own, impl)
      : mls.reinitCreateNewGroup(...own, suiteName(suite), extensions(list)))
    client.enter(newState, pair, impl)
    return { welcome: encodeMessage("mls_welcome", { welcome }) }
  },

  async export(client, { label, context, length }) {
    const { exporterSecret } = client.state.keySchedule
    return { secret: hex(await mls.mlsExporter(exporterSecret, label, bytes(context), length, client.impl)) }
  },

  async status(client) {
    const { groupContext, keySchedule, privatePath, ratchetTree, groupActiveState } = client.state
    return {
      group_id: hex(groupContext.groupId),
      epoch: Number(groupContext.epoch),
      tree_hash: hex(groupContext.treeHash),
      confirmed_transcript_hash: hex(groupContext.confirmedTranscriptHash),
      epoch_authenticator: hex(keySchedule.epochAuthenticator),
      extensions: groupContext.extensions.map(({ extensionType, extensionData }) => [
        mls.defaultExtensionTypes[extensionType] ?? extensionType,
        hex(extensionData),
      ]),
      own_index: privatePath.leafIndex,
      members: ratchetTree.flatMap((node, i) =>
        node?.nodeType === "leaf" ? [[i / 2, hex(node.leaf.credential.identity)]] : [],
      ),
      activity: groupActiveState.kind,
    }
  },
}

async function answer(line) {
  try {
    const { op, client, ...request } = JSON.parse(line)
    if (client === undefined) return await operations[op](request)
    return await operations[op](clients[client], request)
  } catch (error) {
    return { error: `${error.name}: ${error.message}` }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await answer(line)) + "\n")
}
