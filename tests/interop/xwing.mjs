// The HPKE of one ts-mls cipher suite, as one answer: a key pair from `ikm`, `sealed` opened with it, and `plaintext`
// sealed to `public`. Reads a JSON request from its input, byte strings in hex; the argument is where ts-mls is installed.

import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"

const packages = createRequire(resolve(process.argv[2], "package.json"))
const mls = await import(pathToFileURL(packages.resolve("ts-mls")))

const hex = (bytes) => Buffer.from(bytes).toString("hex")
const bytes = (text) => new Uint8Array(Buffer.from(text, "hex"))

const request = JSON.parse(readFileSync(0, "utf8"))
const { hpke } = await mls.getCiphersuiteImpl(mls.getCiphersuiteFromName(request.suite))
const info = bytes(request.info)
const { privateKey, publicKey } = await hpke.deriveKeyPair(bytes(request.ikm))
const opened = await hpke.open(privateKey, bytes(request.sealed[0]), bytes(request.sealed[1]), info)
const theirs = await hpke.importPublicKey(bytes(request.public))
const { enc, ct } = await hpke.seal(theirs, bytes(request.plaintext), info)

const answer = {
  private: hex(await hpke.exportPrivateKey(privateKey)),
  public: hex(await hpke.exportPublicKey(publicKey)),
  opened: hex(opened),
  sealed: [hex(enc), hex(ct)],
}
process.stdout.write(JSON.stringify(answer))
