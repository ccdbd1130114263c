// Reads mails, a JSON list of base64 on stdin, with npm's mailparser; writes a JSON list of their fields.
const { simpleParser } = require('mailparser');

const boxes = (field) => [field ?? []].flat().flatMap((one) => one.value)
    .flatMap((box) => box.group ?? [box]).map((box) => [box.name ?? '', box.address ?? '']);

(async () => {
    const found = [];
    for (const mail of JSON.parse(require('fs').readFileSync(0, 'utf8'))) {
        const read = await simpleParser(Buffer.from(mail, 'base64'));
        found.push({
            from: boxes(read.from), to: boxes(read.to), cc: boxes(read.cc), subject: read.subject ?? '',
            date: read.date ? read.date.toISOString() : null, text: read.text ?? '', html: read.html || '',
            attachments: read.attachments.map((one) => one.filename ?? null).filter((name) => name !== null),
        });
    }
    process.stdout.write(JSON.stringify(found));
})();
