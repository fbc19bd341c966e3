// The official JavaScript client loses an answer and asks again under the same payment-identifier.
// Usage: node retry.mjs '{"url", "rpcUrl", "network", "key", "scheme", "bodies": [first, lost], "id"}'
// Pays for `first`; pays for `lost` and throws the answer away; prints what was lost as one line.
// Then reads a line from stdin, the address to ask again at, asks the same twice under the same name
// and once under another, and prints what came as one line.
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { BatchSettlementEvmScheme, toClientEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import {
  appendPaymentIdentifierToExtensions,
  generatePaymentId,
} from "@x402/extensions/payment-identifier";
import { createInterface } from "node:readline";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const task = JSON.parse(process.argv[2]);
const account = privateKeyToAccount(task.key);
const signer = toClientEvmSigner(account, createPublicClient({ transport: http(task.rpcUrl) }));
const scheme =
  task.scheme === "exact"
    ? new ExactEvmScheme(signer)
    : new BatchSettlementEvmScheme(signer, { depositPolicy: { depositMultiplier: 5 } });
const client = new x402Client().register(task.network, scheme);
client.setSpendControls({ allowedAssets: true });
let id = generatePaymentId();
client.onBeforePaymentCreation(async ({ paymentRequired }) => {
  appendPaymentIdentifierToExtensions(paymentRequired.extensions ?? {}, id);
});

// The network under the client: while `losing`, a paid answer arrives nowhere. With `resend` it
// sends the same bytes again by itself, as a proxy or an HTTP library does.
let losing = false;
let lost = null;
let kept = null;
const network = async (request) => {
  const paid = request.headers.has("PAYMENT-SIGNATURE");
  if (paid) kept = Object.fromEntries(request.headers);
  const response = await fetch(request);
  if (losing && paid) {
    lost = { ...told(response), text: await response.text() };
    throw new TypeError("the network lost the answer");
  }
  return response;
};
const told = (response) => ({
  status: response.status,
  type: response.headers.get("content-type"),
  header: response.headers.get("PAYMENT-RESPONSE"),
});
const pay = wrapFetchWithPayment(network, client);
const post = async (url, body) => {
  const response = await pay(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { ...told(response), text: await response.text() };
};

const first = await post(task.url, task.bodies[0]);
id = task.id;
losing = true;
const thrown = await post(task.url, task.bodies[1]).catch((error) => String(error));
losing = false;
process.stdout.write(JSON.stringify({ first, lost, thrown }) + "\n");

const [url] = await new Promise((resolve) => {
  createInterface({ input: process.stdin }).once("line", (line) => resolve([line]));
});
const resend = await fetch(url, {
  method: "POST",
  headers: kept,
  body: JSON.stringify(task.bodies[1]),
});
const resent = { ...told(resend), text: await resend.text() };
const again = await post(url, task.bodies[1]);
id = generatePaymentId();
const next = await post(url, task.bodies[1]);
const settled = decodePaymentResponseHeader(next.header);
process.stdout.write(JSON.stringify({ resent, again, next, settled }) + "\n");
process.exit(0);
