// What npm `@x402/extensions` says of our offers, receipts and discovery, all of them unmodified.
// Usage: node verify.mjs '[{"required": PaymentRequired, "settled"?: SettleResponse, "payer"?}, …]'
// Prints one JSON array, in the order of the input.
import {
  decodeSignedOffers,
  extractDiscoveryInfoFromExtension,
  extractOffersFromPaymentRequired,
  extractReceiptFromResponse,
  findAcceptsObjectFromSignedOffer,
  isValidServiceName,
  validateDiscoveryExtension,
  validateDiscoveryExtensionSpec,
  verifyOfferSignatureEIP712,
  verifyReceiptMatchesOffer,
  verifyReceiptSignatureEIP712,
} from "@x402/extensions";

async function recovered(verify, signed) {
  try {
    return (await verify(signed)).signer;
  } catch (error) {
    return error.message;
  }
}

async function judge({ required, settled, payer }) {
  const offers = extractOffersFromPaymentRequired(required);
  const decoded = decodeSignedOffers(offers);
  const found = {
    signers: await Promise.all(offers.map((offer) => recovered(verifyOfferSignatureEIP712, offer))),
    accepts: decoded.map((offer) =>
      required.accepts.indexOf(findAcceptsObjectFromSignedOffer(offer, required.accepts)),
    ),
    serviceName: isValidServiceName(required.resource.serviceName),
  };
  const bazaar = required.extensions?.bazaar;
  if (bazaar) {
    found.bazaar = {
      shape: validateDiscoveryExtension(bazaar),
      spec: validateDiscoveryExtensionSpec(bazaar),
      info: extractDiscoveryInfoFromExtension(bazaar),
    };
  }
  if (settled) {
    const header = Buffer.from(JSON.stringify(settled)).toString("base64");
    const receipt = extractReceiptFromResponse(
      new Response(null, { headers: { "PAYMENT-RESPONSE": header } }),
    );
    found.receipt = receipt && {
      signer: await recovered(verifyReceiptSignatureEIP712, receipt),
      payload: receipt.payload,
      matches: decoded.map((offer) => verifyReceiptMatchesOffer(receipt, offer, [payer])),
    };
  }
  return found;
}

const tasks = JSON.parse(process.argv[2]);
process.stdout.write(JSON.stringify(await Promise.all(tasks.map(judge))) + "\n");
