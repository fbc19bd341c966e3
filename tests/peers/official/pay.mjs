// The official JavaScript clients, unmodified, against a node of ours.
// Usage: node pay.mjs '{"url", "rpcUrl", "network", "key", "scheme": "batch-settlement" | "exact",
//                       "wallet"?: {"address", "wrap"?: {"factory", "data"}}, "steps": [...]}'
// A step is a body to POST, {"together": [bodies]}, {"forget": true} (the client loses what it knew of its channel) or
// {"refund": amount | ""} ("" for all). `wallet` is a contract that `key` signs for; `wrap` makes
// its signatures those of a wallet that is not deployed yet (ERC-6492).
// Prints one JSON array: for each step what came of it.
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { BatchSettlementEvmScheme, toClientEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { serializeErc6492Signature } from "viem/utils";

const task = JSON.parse(process.argv[2]);
const key = privateKeyToAccount(task.key);
const publicClient = createPublicClient({ transport: http(task.rpcUrl) });
const { address, wrap } = task.wallet ?? { address: key.address };
const signer = toClientEvmSigner(
  {
    address,
    async signTypedData(message) {
      const signature = await key.signTypedData(message);
      if (!wrap) return signature;
      return serializeErc6492Signature({ address: wrap.factory, data: wrap.data, signature });
    },
  },
  publicClient,
);
// A contract wallet's vouchers are signed by a plain key that the channel names.
const voucherSigner = task.wallet ? toClientEvmSigner(key, publicClient) : undefined;

let scheme, pay;
function begin() {
  scheme =
    task.scheme === "exact"
      ? new ExactEvmScheme(signer)
      : new BatchSettlementEvmScheme(signer, { voucherSigner, depositPolicy: { depositMultiplier: 5 } });
  const client = new x402Client().register(task.network, scheme);
  // The devnet's token is no chain's default asset, so it must be allowed by name.
  client.setSpendControls({ allowedAssets: true });
  pay = wrapFetchWithPayment(fetch, client);
}

async function buy(body) {
  const response = await pay(task.url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const settled = response.headers.get("PAYMENT-RESPONSE");
  return {
    status: response.status,
    text: await response.text(),
    settled: settled ? decodePaymentResponseHeader(settled) : null,
  };
}

async function take(step) {
  if ("forget" in step) return begin();
  if ("together" in step) return Promise.all(step.together.map(buy));
  if (!("refund" in step)) return buy(step);
  try {
    return await scheme.refund(task.url, step.refund ? { amount: step.refund } : {});
  } catch (error) {
    return { success: false, error: error.message };
  }
}

begin();
const done = [];
for (const step of task.steps) done.push((await take(step)) ?? null);
process.stdout.write(JSON.stringify(done) + "\n");
