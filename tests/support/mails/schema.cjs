// npm's ajv as a judge of JSON: node schema.cjs SCHEMA VALUES, where VALUES is a JSON array. Prints a JSON
// array with the first mistake of each value, "" for a value that the schema takes.
const fs = require("node:fs");
const path = require("node:path");
const { Ajv2020 } = require(path.join(process.env.NODE_MODULES, "ajv", "dist", "2020"));

const [schema, values] = process.argv.slice(2).map((name) => JSON.parse(fs.readFileSync(name, "utf8")));
const takes = new Ajv2020({ validateFormats: false }).compile(schema);
console.log(JSON.stringify(values.map((value) => (takes(value) ? "" : JSON.stringify(takes.errors[0])))));
