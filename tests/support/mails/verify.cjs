// npm's mailauth as a judge of DKIM signatures: node verify.cjs MAIL RECORDS, where RECORDS is a JSON
// object of TXT records by name. Prints one JSON object per signature.
const fs = require("node:fs");
const path = require("node:path");
const { dkimVerify } = require(path.join(process.env.NODE_MODULES, "mailauth", "lib", "dkim", "verify"));

const [mail, records] = process.argv.slice(2);
const known = JSON.parse(fs.readFileSync(records, "utf8"));

const resolver = async (name, type) => {
    if (type === "TXT" && name in known) {
        return [[known[name]]];
    }
    throw Object.assign(new Error("no such record"), { code: "ENOTFOUND" });
};

dkimVerify(fs.readFileSync(mail), { resolver }).then(({ results }) => {
    for (const { signingDomain, selector, algo, status, signingHeaders } of results) {
        const { result, comment } = status;
        console.log(JSON.stringify({ signingDomain, selector, algo, result, comment, keys: signingHeaders?.keys }));
    }
});
