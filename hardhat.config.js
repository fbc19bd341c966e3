// Hardhat compiles and tests the same sources as Foundry (foundry.toml), with the same settings.
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "hardhat/config";

// The compiler is the npm package: Hardhat downloads none.
const compiler = { version: "0.8.37", path: fileURLToPath(import.meta.resolve("solc/soljson.js")) };
const settings = { evmVersion: "cancun", metadata: { bytecodeHash: "none" } };
const shipped = { ...compiler, settings: { ...settings, optimizer: { enabled: true, runs: 200 } } };
const unoptimized = { ...compiler, settings: { ...settings, optimizer: { enabled: false } } };

// The contracts are compiled as they ship. The tests import interfaces only, and need no optimizer.
const tests = "tests/contracts";
const testFiles = readdirSync(tests).filter((name) => name.endsWith(".sol"));
const overrides = Object.fromEntries(testFiles.map((name) => [`${tests}/${name}`, unoptimized]));

// What a library's source is warned of is not ours to mend; whatever concerns our own sources is shown.
async function withoutForeignWarnings(context, solc, input, config, next) {
  const output = await next(context, solc, input, config);
  const ours = ({ severity, sourceLocation }) =>
    severity === "error" || /^project\//.test(sourceLocation?.file ?? "");
  return { ...output, errors: output.errors?.filter(ours) };
}

export default defineConfig({
  solidity: { profiles: { default: { compilers: [shipped], overrides } } },
  paths: {
    sources: "contracts",
    tests: { solidity: tests },
    cache: "cache/hardhat",
    artifacts: "artifacts",
  },
  plugins: [
    {
      id: "weightproof-warnings",
      hookHandlers: {
        solidity: async () => ({ default: async () => ({ invokeSolc: withoutForeignWarnings }) }),
      },
    },
  ],
  test: {
    solidity: {
      fsPermissions: { readDirectory: ["tests/vectors"] },
      fuzz: { runs: 64, seed: "0x57656967687470726f6f66" },
      invariant: { runs: 8, depth: 64, failOnRevert: true },
    },
  },
});
