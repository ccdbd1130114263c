// npm's ajv as a judge of a bill of materials: node cyclonedx.cjs FOLDER BILL, where FOLDER has CycloneDX's
// schemas. Prints a JSON array of its mistakes.
const fs = require("node:fs");
const path = require("node:path");
const Ajv = require(path.join(process.env.NODE_MODULES, "ajv"));

const [folder, bill] = process.argv.slice(2);
const read = (name) => JSON.parse(fs.readFileSync(name, "utf8"));
const judge = new Ajv({ strict: false, validateFormats: false, allErrors: true });
// The main schema names the others beside its own address, and they name themselves elsewhere.
for (const name of ["spdx", "jsf-0.82", "cryptography-defs"]) {
  const { $id, ...schema } = read(path.join(folder, `${name}.SNAPSHOT.schema.json`));
  judge.addSchema(schema, `http://cyclonedx.org/schema/${name}.SNAPSHOT.schema.json`);
}
const takes = judge.compile(read(path.join(folder, "bom-1.6.SNAPSHOT.schema.json")));
takes(read(bill));
console.log(JSON.stringify((takes.errors ?? []).map((one) => `${one.instancePath}: ${one.message}`)));
