// The official JavaScript client signs in with its wallet and reads what it bought, for free.
// Usage: node wallet.mjs '{"urls": [...], "key", "network"}'
// Prints for each address what `wrapFetchWithSIWx` got, what the extension under
// `wrapFetchWithPayment` got, and what became of the first proof when it was sent once more.
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { createSIWxClientExtension, wrapFetchWithSIWx } from "@x402/extensions/sign-in-with-x";
import { privateKeyToAccount } from "viem/accounts";

const task = JSON.parse(process.argv[2]);
const account = privateKeyToAccount(task.key);
let proof = null;
let payments = 0;
const network = async (input, init) => {
  const request = new Request(input, init);
  proof = request.headers.get("SIGN-IN-WITH-X") ?? proof;
  payments += request.headers.has("PAYMENT-SIGNATURE") ? 1 : 0;
  return fetch(request);
};
const signing = wrapFetchWithSIWx(network, account);
const client = new x402Client().register(task.network, new ExactEvmScheme(account));
client.setSpendControls({ allowedAssets: true });
client.registerExtension(createSIWxClientExtension({ signers: [account] }));
const paying = wrapFetchWithPayment(network, client);

const read = async (response) => ({ status: response.status, text: await response.text() });
const results = [];
for (const url of task.urls) {
  const signed = await read(await signing(url));
  const replayed = await read(await fetch(url, { headers: { "SIGN-IN-WITH-X": proof } }));
  const extended = await read(await paying(url));
  results.push({ signed, replayed, extended });
}
process.stdout.write(JSON.stringify({ results, payments }) + "\n");
