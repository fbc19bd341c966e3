// A real js-ipfs node with Kubo's HTTP RPC on a free loopback port, cut off from every network.
// Usage: node server.mjs REPO_FOLDER. Prints one line, {"rpc": "/ip4/127.0.0.1/tcp/N"}, when ready.
import { create } from "ipfs-core";
import { HttpApi } from "ipfs-http-server";

const repo = process.argv[2];
const config = {
  Addresses: {
    Swarm: ["/ip4/127.0.0.1/tcp/0"],
    API: "/ip4/127.0.0.1/tcp/0",
    Gateway: "/ip4/127.0.0.1/tcp/0",
    Delegates: [],
  },
  Bootstrap: [],
  Discovery: { MDNS: { Enabled: false }, webRTCStar: { Enabled: false } },
  Routing: { Type: "none" },
};
const ipfs = await create({ repo, silent: true, init: { profiles: ["test"] }, config });
const api = new HttpApi(ipfs);
await api.start();
const { port } = new URL(api._apiServers[0].info.uri);
console.log(JSON.stringify({ rpc: `/ip4/127.0.0.1/tcp/${port}` }));
// The parent holds our standard input open; when it ends, however it ends, so do we.
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
