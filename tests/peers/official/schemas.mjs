// What npm `ajv` (draft 2020-12) says of values by our schemas.
// Usage: node schemas.mjs FILE, a JSON object {"schemas": {NAME: SCHEMA}, "values": [[NAME, VALUE], …]}.
// Prints one JSON array of true or the first reason, in the order of the values.
import { readFileSync } from "node:fs";
import Ajv from "ajv/dist/2020.js";

const { schemas, values } = JSON.parse(readFileSync(JSON.parse(process.argv[2]), "utf8"));
const ajv = new Ajv({ strict: true, strictRequired: true, allowUnionTypes: false, formats: {} });
const judges = Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, ajv.compile(schema)]));
const found = values.map(([name, value]) => {
  const judge = judges[name];
  return judge(value) || `${judge.errors[0].instancePath} ${judge.errors[0].message}`;
});
process.stdout.write(JSON.stringify(found) + "\n");
