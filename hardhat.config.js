// Hardhat compiles and tests the same sources as Foundry (foundry.toml), with the same settings.
import { fileURLToPath } from "node:url";
import { defineConfig } from "hardhat/config";

// The contracts are compiled as they ship. The tests import interfaces only; they are compiled apart and without the
// optimizer, which spends more time on them than on all else together. Of a library's source no code is wanted.
async function compile(context, solc, input, config, next) {
  const names = Object.keys(input.sources);
  const wanted = input.settings.outputSelection["*"];
  const outputSelection = Object.fromEntries(
    names.map((name) => [name, name.startsWith("project/") ? wanted : {}]),
  );
  const ofTests = names.some((name) => name.startsWith("project/tests/"));
  const optimizer = ofTests ? { enabled: false } : input.settings.optimizer;
  const settings = { ...input.settings, optimizer, outputSelection };
  const output = await next(context, solc, { ...input, settings }, config);
  return { ...output, errors: output.errors?.filter(concernsUs) };
}

// What a library's source is warned of is not ours to mend; whatever concerns our own sources is shown.
function concernsUs({ severity, sourceLocation }) {
  return severity === "error" || (sourceLocation?.file ?? "").startsWith("project/");
}

export default defineConfig({
  solidity: {
    splitTestsCompilation: true,
    profiles: {
      default: {
        version: "0.8.37",
        // The compiler is the npm package: Hardhat downloads none.
        path: fileURLToPath(import.meta.resolve("solc/soljson.js")),
        settings: {
          evmVersion: "cancun",
          metadata: { bytecodeHash: "none" },
          optimizer: { enabled: true, runs: 200 },
        },
      },
    },
  },
  plugins: [
    {
      id: "weightproof",
      hookHandlers: { solidity: async () => ({ default: async () => ({ invokeSolc: compile }) }) },
    },
  ],
  paths: {
    sources: "contracts",
    tests: { solidity: "tests/contracts" },
    cache: "cache/hardhat",
    artifacts: "artifacts",
  },
  test: {
    solidity: {
      fsPermissions: { readDirectory: ["tests/vectors"] },
      fuzz: { runs: 64, seed: "0x57656967687470726f6f66" },
      invariant: { runs: 8, depth: 64, failOnRevert: true },
    },
  },
});
