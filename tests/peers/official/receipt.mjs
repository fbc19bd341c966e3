// Verifies a proof file (weightproof/proof@1) with nothing but viem: another reading of the same format.
// Usage: node receipt.mjs '[{"proof": TEXT, "node"?: ADDRESS}, …]'; prints one JSON array, in the order of the input:
// {"ok": true, "kind", "node", "steps"} or {"ok": false, "reason"}. Not told: charges, and what only a chain can say.
import { concat, hexToBytes, recoverTypedDataAddress, sha256, stringToBytes, toHex } from "viem";

const HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;
const TYPES = {
  Receipt: [
    { name: "receiptDigest", type: "bytes32" },
    { name: "modelId", type: "bytes32" },
    { name: "payer", type: "address" },
    { name: "charged", type: "uint256" },
    { name: "requestHash", type: "bytes32" },
    { name: "responseHash", type: "bytes32" },
    { name: "seq", type: "uint64" },
  ],
  Checkpoint: [
    { name: "origin", type: "string" },
    { name: "size", type: "uint64" },
    { name: "root", type: "bytes32" },
  ],
};
const RECEIPTS = ["weightproof/receipt@1", "weightproof/receipt@2"];

function must(holds, reason) {
  if (!holds) throw new Error(reason);
}

// RFC 8785 of what we write: texts, integers, lists and objects.
function canonical(value) {
  if (typeof value === "string") return JSON.stringify(value);
  if (Number.isSafeInteger(value)) return String(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  must(value !== null && typeof value === "object", "a value that is no canonical JSON");
  const keys = Object.keys(value).sort();
  return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
}

function recover(domain, primaryType, message, signature) {
  must(/^0x[0-9a-f]{128}(1b|1c)$/.test(signature), "a signature is r, s and a v of 27 or 28");
  must(BigInt(`0x${signature.slice(66, 130)}`) <= HALF_ORDER, "the signature has a twin");
  const types = { [primaryType]: TYPES[primaryType] };
  return recoverTypedDataAddress({ domain, types, primaryType, message, signature });
}

function domainOf(proof, name) {
  return { name, version: "1", chainId: proof.chain, verifyingContract: proof.anchor };
}

// 1. The node signed exactly this receipt.
async function checkSignature(proof, { receipt, signature }) {
  must(RECEIPTS.includes(receipt.format), `no receipt known here: ${receipt.format}`);
  must(receipt.node === proof.node && receipt.seq === proof.entry.seq, "of another node or place");
  const message = {
    receiptDigest: sha256(stringToBytes(canonical(receipt))),
    modelId: receipt.model.modelId,
    payer: receipt.payment.payer,
    charged: BigInt(receipt.payment.charged),
    requestHash: receipt.request.hash,
    responseHash: receipt.response.hash,
    seq: BigInt(receipt.seq),
  };
  const signer = await recover(domainOf(proof, "Weightproof Receipt"), "Receipt", message, signature);
  must(signer === proof.node, `the receipt was changed, or signed by ${signer}`);
}

// 2. It is about these bytes.
function checkBody(proof, name) {
  if (proof[name] === undefined) return false;
  const data = Buffer.from(proof[name], "base64");
  const found = sha256(concat([hexToBytes(proof.salts[name]), data]));
  must(found === proof.entry.body.receipt[name].hash, `the receipt is about another ${name}`);
  return true;
}

// 4. The entry stands at its place (RFC 9162, 2.1.3.2).
function checkInclusion(proof, root, { size, path }) {
  const node = (left, right) => sha256(concat(["0x01", left, right]));
  let value = sha256(concat(["0x00", toHex(canonical(proof.entry))]));
  let [place, last] = [BigInt(proof.entry.seq), BigInt(size) - 1n];
  must(place <= last, "the log is shorter than that");
  for (const sibling of path) {
    must(last > 0n, "the inclusion proof is too long");
    if (place & 1n || place === last) {
      value = node(sibling, value);
      while (!(place & 1n) && place) [place, last] = [place >> 1n, last >> 1n];
    } else value = node(value, sibling);
    [place, last] = [place >> 1n, last >> 1n];
  }
  must(last === 0n, "the inclusion proof is too short");
  must(value === root, "the inclusion proof leads to another root");
}

// 5. The node signed the head: a C2SP note with an EIP-712 signature.
async function checkCheckpoint(proof) {
  const [text, signatures] = proof.checkpoint.split("\n\n");
  const [origin, size, root] = text.split("\n");
  const head = { origin, size: BigInt(size), root: toHex(Buffer.from(root, "base64")) };
  const type = concat([toHex(`${origin}\n`), "0xff", toHex("weightproof/eip712-checkpoint@1"), proof.node]);
  const key = sha256(type).slice(0, 10);
  const lines = signatures.split("\n").map((line) => line.split(" "));
  const ours = lines.find(
    ([dash, name, data]) => dash === "—" && name === origin && toHex(Buffer.from(data, "base64")).startsWith(key),
  );
  must(ours, "the checkpoint carries no signature by the node");
  const signature = `0x${Buffer.from(ours[2], "base64").subarray(4).toString("hex")}`;
  const signer = await recover(domainOf(proof, "Weightproof AuditAnchor"), "Checkpoint", head, signature);
  must(signer === proof.node, `the checkpoint is signed by ${signer}`);
  return head;
}

async function verify(text, expected) {
  const proof = JSON.parse(text);
  must(proof.format === "weightproof/proof@1", `no proof known here: ${proof.format}`);
  must(canonical(proof) === text, "not canonical");
  must(!expected || expected === proof.node, `of node ${proof.node}`);
  const steps = [];
  if (proof.entry.kind === "receipt") {
    await checkSignature(proof, proof.entry.body);
    steps.push("signature", ...["request", "response"].filter((name) => checkBody(proof, name)));
  }
  const head = await checkCheckpoint(proof);
  must(head.size === BigInt(proof.inclusion.size), "the path is of another size than the head");
  checkInclusion(proof, head.root, proof.inclusion);
  steps.push("checkpoint", "inclusion");
  if (proof.anchored) {
    checkInclusion(proof, proof.anchored.root, proof.anchored);
    steps.push("anchored inclusion");
  }
  return { ok: true, kind: proof.entry.kind, node: proof.node, steps };
}

const tasks = JSON.parse(process.argv[2]);
const found = tasks.map(({ proof, node }) => verify(proof, node).catch(({ message }) => ({ ok: false, reason: message })));
process.stdout.write(JSON.stringify(await Promise.all(found)) + "\n");
