// OpenAI's client for Node against a gateway: what it did, as one JSON object. OPENAI_BASE_URL, OPENAI_API_KEY, TRAIN.
import fs from 'node:fs';
import OpenAI, { toFile } from 'openai';

const client = new OpenAI({ maxRetries: 0 });
const refused = async (call) => {
  try {
    await call();
  } catch (error) {
    return [error.constructor.name, error.status, error.code, error.param, Boolean(error.requestID ?? error.request_id)];
  }
};

const file = await client.files.create({ file: fs.createReadStream(process.env.TRAIN), purpose: 'fine-tune' });
const named = await client.files.create({
  file: await toFile(Buffer.from('{}\n'), 'ü x.jsonl'),
  purpose: 'fine-tune',
  expires_after: { anchor: 'created_at', seconds: 3600 },
});
const ids = [];
for await (const one of client.files.list({ limit: 1, order: 'asc' })) ids.push(one.id);
const upload = await client.uploads.create({ bytes: 6, filename: 'parts', mime_type: 'text/plain', purpose: 'batch' });
const parts = [];
for (const text of ['abc', 'def']) {
  parts.push((await client.uploads.parts.create(upload.id, { data: await toFile(Buffer.from(text), 'x') })).id);
}
const whole = (await client.uploads.complete(upload.id, { part_ids: parts })).file;
const pending = await client.uploads.create({ bytes: 1, filename: 'a', mime_type: 'text/plain', purpose: 'batch' });

console.log(JSON.stringify({
  file: [file.filename, file.bytes, (await client.files.waitForProcessing(file.id)).status],
  named: [named.filename, named.expires_at - named.created_at],
  listed: ids.join() === [file.id, named.id].join(),
  content: (await (await client.files.content(file.id)).text()) === fs.readFileSync(process.env.TRAIN, 'utf8'),
  whole: [whole.filename, await (await client.files.content(whole.id)).text()],
  cancelled: (await client.uploads.cancel(pending.id)).status,
  bad: await refused(async () => client.files.create({ file: await toFile(Buffer.from('no'), 'a'), purpose: 'fine-tune' })),
  deleted: (await (client.files.delete ?? client.files.del).call(client.files, file.id)).deleted,
  gone: await refused(() => client.files.retrieve(file.id)),
  key: await refused(() => new OpenAI({ apiKey: 'wrong' }).files.list()),
}));
