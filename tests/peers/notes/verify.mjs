// Verifies a C2SP signed note with nothing of ours: node's own crypto, and the specification's text.
// Usage: node verify.mjs VKEY < note; prints the text, or ends with 1.
import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";

const refuse = (why) => {
  console.error(why);
  process.exit(1);
};
const [name, hash, base64] = process.argv[2].split(/\+(.*?)\+(.*)/s);
const key = Buffer.from(base64, "base64");
const id = createHash("sha256").update(`${name}\n`).update(key).digest().subarray(0, 4);
if (id.toString("hex") !== hash) refuse("the vkey's hash is another key's");
// RFC 8410: the DER head of every Ed25519 public key.
const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key.subarray(1)]);
const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });

const note = readFileSync(0, "utf8");
const end = note.lastIndexOf("\n\n");
if (end < 0) refuse("no signatures");
const text = note.slice(0, end + 1);
for (const line of note.slice(end + 2).trimEnd().split("\n")) {
  const [dash, signer, data] = line.split(" ");
  const bytes = Buffer.from(data, "base64");
  if (dash !== "\u2014" || signer !== name || !bytes.subarray(0, 4).equals(id)) continue;
  let [message, signature] = [text, bytes.subarray(4)];
  if (key[0] === 4) {
    message = `cosignature/v1\ntime ${signature.readBigUInt64BE(0)}\n${text}`;
    signature = signature.subarray(8);
  }
  if (!verify(null, Buffer.from(message), publicKey, signature)) refuse("a false signature");
  process.stdout.write(text);
  process.exit(0);
}
refuse("no signature by this key");
