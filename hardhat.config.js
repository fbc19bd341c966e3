// Hardhat compiles and tests the same sources as Foundry (foundry.toml), with the same settings.
import { fileURLToPath } from "node:url";
import { defineConfig } from "hardhat/config";

export default defineConfig({
  solidity: {
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
