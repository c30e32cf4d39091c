// Documents from Node, through examples/document_service.py: send, and wait for the end. No package needed.
//
//     node examples/enqueue.mjs http://localhost:8080 faq documents.jsonl

import { readFile } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";

const [service, collection, file] = process.argv.slice(2);

async function ask(path, options = {}) {
  for (;;) {
    const answer = await fetch(service + path, { ...options, headers: { "content-type": "application/json" } });
    if (answer.status === 503) {
      // The queue is full, or a server is away: nothing was taken, or what was is skipped the next time.
      await pause(1000 * Number(answer.headers.get("retry-after") ?? 5));
      continue;
    }
    const said = await answer.json();
    if (!answer.ok) throw new Error(`${answer.status}: ${said.message ?? JSON.stringify(said)}`);
    return said;
  }
}

const lines = (await readFile(file, "utf8")).split("\n").filter((line) => line.trim());
const counts = { stored: 0, skipped: 0, dead: 0, rejected: 0 };
for (let at = 0; at < lines.length; at += 500) {
  const body = `[${lines.slice(at, at + 500).join(",")}]`;
  const taken = await ask(`/collections/${collection}/documents`, { method: "PUT", body });
  for (const each of taken.rejected) console.error(`${each.id}: ${each.reason}`);
  let report = await ask(`/jobs/${taken.job}`);
  while (report.state !== "done") {
    await pause(100);
    report = await ask(`/jobs/${taken.job}`);
  }
  for (const name in counts) counts[name] += report[name];
}
console.log(JSON.stringify(counts));
