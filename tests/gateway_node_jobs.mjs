// What a script for OpenAI's fine-tuning does, with the official client; what it saw is printed as JSON.
import fs from "node:fs";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const jobs = client.fineTuning.jobs;
const refused = async (call) => {
  try {
    await call();
  } catch (error) {
    return [error.constructor.name, error.status, error.code, error.param];
  }
};

const file = await client.files.create({ file: fs.createReadStream(process.env.TRAIN), purpose: "fine-tune" });
const asked = { model: "smollm2-135m", training_file: file.id, suffix: "node", metadata: { team: "a b" } };
const job = await jobs.create(asked);
const paused = await jobs.pause(job.id);
const resumed = await jobs.resume(job.id);
const other = await jobs.create({ ...asked, metadata: null, suffix: null, method: { type: "supervised" } });
const listed = [];
for await (const one of jobs.list({ limit: 1 })) listed.push(one.id);
const found = await jobs.list({ metadata: { team: "a b" } });
const events = [];
for await (const event of jobs.listEvents(job.id, { limit: 1 })) events.push(event.message);
const cancelled = await jobs.cancel(job.id);

console.log(
  JSON.stringify({
    job: [job.object, job.status, job.user_provided_suffix, job.metadata],
    paused: paused.status,
    resumed: resumed.status,
    listed: listed.join() === [other.id, job.id].join(),
    found: found.data.map((one) => one.id).join() === job.id,
    events: events.map((text) => text.replace(job.id, "JOB").replace(file.id, "FILE")),
    checkpoints: (await jobs.checkpoints.list(job.id)).data,
    cancelled: cancelled.status,
    again: await refused(() => jobs.cancel(job.id)),
    unknown: await refused(() => jobs.retrieve("ftjob-none")),
    bad: await refused(() => jobs.create({ ...asked, hyperparameters: { n_epochs: 99 } })),
    model: (await client.models.retrieve("smollm2-135m")).id,
    gone: await refused(() => (client.models.delete ?? client.models.del).call(client.models, "ft:a/b:ftq::c")),
  }),
);
