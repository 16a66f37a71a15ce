// A job from its file to its model's answers in OpenAI's client for Node; what it saw is printed as JSON.
// OPENAI_BASE_URL, OPENAI_API_KEY, TRAIN, VALID.
import fs from 'node:fs';
import OpenAI from 'openai';

const client = new OpenAI();
const jobs = client.fineTuning.jobs;
const upload = (path) => client.files.create({ file: fs.createReadStream(path), purpose: 'fine-tune' });
const ask = (model, more = {}) =>
  client.chat.completions.create({
    model,
    messages: [{ role: 'user', content: 'What is 3?' }],
    max_tokens: 6,
    temperature: 0,
    seed: 1,
    ...more,
  });

const [train, valid] = [await upload(process.env.TRAIN), await upload(process.env.VALID)];
let job = await jobs.create({
  model: 'smollm2-135m',
  training_file: train.id,
  validation_file: valid.id,
  suffix: 'node',
  seed: 7,
  metadata: { team: 'node' },
  method: {
    type: 'supervised',
    supervised: { hyperparameters: { n_epochs: 2, batch_size: 1, learning_rate_multiplier: 3 } },
  },
});
const created = [job.object, job.status, job.metadata];
for (let tries = 0; tries < 2000 && !['succeeded', 'failed', 'cancelled'].includes(job.status); tries++) {
  await new Promise((resolve) => setTimeout(resolve, 500));
  job = await jobs.retrieve(job.id);
}
if (job.status !== 'succeeded') throw new Error(JSON.stringify(job.error));

const events = [];
for await (const event of jobs.listEvents(job.id, { limit: 7 })) events.push(event);
const names = [];
for await (const one of jobs.checkpoints.list(job.id, { limit: 1 })) names.push(one.fine_tuned_model_checkpoint);
const answers = [];
for (const name of names) answers.push((await ask(name)).model);
let text = '';
for await (const chunk of await ask(job.fine_tuned_model, { stream: true })) text += chunk.choices[0].delta.content ?? '';
const models = [];
for await (const model of client.models.list()) models.push(model.id);

console.log(
  JSON.stringify({
    created,
    done: [job.fine_tuned_model.split(':').slice(0, 4).join(':'), job.hyperparameters.n_epochs, job.trained_tokens > 0],
    events: [events[0].message, new Set(events.map((one) => one.id)).size === events.length],
    steps: events.filter((one) => one.type === 'metrics').length,
    checkpoints: [names[0] === job.fine_tuned_model, names.length, answers.join() === names.join()],
    streamed: text === (await ask(job.fine_tuned_model)).choices[0].message.content,
    result: (await (await client.files.content(job.result_files[0])).text()).split('\n').length,
    listed: models.includes(job.fine_tuned_model),
  }),
);
