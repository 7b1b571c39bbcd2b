// Writes `src/generated/api.ts`, the types of the server's calls, from the document that the server gives of them:
//
//     slotcast openapi | node api.mjs [FILE]
//
// Refusals and examples are left out: every refusal is a `Refusal`, and a type shows no example.

import { readFileSync, writeFileSync } from 'node:fs';

import openapiTS, { astToString } from 'openapi-typescript';

const document = JSON.parse(readFileSync(0, 'utf8'));
for (const operation of Object.values(document.paths).flatMap(Object.values)) {
  operation.responses = { 200: operation.responses[200] };
  for (const { content } of [operation.requestBody, operation.responses[200]].filter(Boolean)) {
    for (const media of Object.values(content ?? {})) delete media.example;
  }
}
const head = '// Made by `web/api.mjs` of the document of `slotcast openapi`: not to be edited.\n\n';
writeFileSync(process.argv[2] ?? 'src/generated/api.ts', head + astToString(await openapiTS(document)));
