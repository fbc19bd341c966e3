// The official JavaScript clients, unmodified, against a node of ours.
// Usage: node pay.mjs '{"url", "rpcUrl", "network", "key", "scheme": "batch-settlement" | "exact",
//                       "bodies": [...], "refund": true | false}'
// Prints one JSON object: for each body the status, the answer and the decoded PAYMENT-RESPONSE.
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { BatchSettlementEvmScheme, toClientEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const task = JSON.parse(process.argv[2]);
const account = privateKeyToAccount(task.key);
const publicClient = createPublicClient({ transport: http(task.rpcUrl) });
const signer = toClientEvmSigner(account, publicClient);
const scheme =
  task.scheme === "exact"
    ? new ExactEvmScheme(signer)
    : new BatchSettlementEvmScheme(signer, { depositPolicy: { depositMultiplier: 5 } });
const client = new x402Client().register(task.network, scheme);
// The devnet's token is no chain's default asset, so it must be allowed by name.
client.setSpendControls({ allowedAssets: true });
const pay = wrapFetchWithPayment(fetch, client);

const calls = [];
for (const body of task.bodies) {
  const response = await pay(task.url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const settled = response.headers.get("PAYMENT-RESPONSE");
  calls.push({
    status: response.status,
    text: await response.text(),
    settled: settled ? decodePaymentResponseHeader(settled) : null,
  });
}
const refund = task.refund ? await scheme.refund(task.url) : null;
process.stdout.write(JSON.stringify({ payer: account.address, calls, refund }) + "\n");
