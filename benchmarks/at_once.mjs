// What a frontend could do without a bulk import: it sends one call per row, all at once, and waits until every call
// settles.
import { readFileSync } from "node:fs";

const [url, authorization, path] = process.argv.slice(2);
const rows = JSON.parse(readFileSync(path, "utf-8"));
const headers = { Authorization: authorization, "Content-Type": "application/json" };
const create = async (row) => {
  const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(row) });
  await answer.arrayBuffer();
};
await Promise.allSettled(rows.map(create));
