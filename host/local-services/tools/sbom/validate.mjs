// Holds bills of materials against the schema of their version, and asks of each component what scanners look it up by.

import { readFile } from 'node:fs/promises';
import { argv, exit } from 'node:process';
import { Spec, Validation } from '@cyclonedx/cyclonedx-library';

let failed = false;
for (const file of argv.slice(2)) {
  const text = await readFile(file, 'utf8');
  const bom = JSON.parse(text);
  const validator = new Validation.JsonStrictValidator(bom.specVersion ?? Spec.Version.v1dot5);
  const faults = [(await validator.validate(text)) ?? []].flat();
  const components = bom.components ?? [];
  faults.push(...components.filter(({ purl, version }) => !purl || !version).map(({ name }) => `${name} has no purl`));
  if (components.length === 0) faults.push('it has no components');
  faults.forEach((fault) => console.error(`${file}:`, fault));
  failed ||= faults.length > 0;
  const { name } = bom.metadata?.component ?? {};
  console.log(`${file}: ${name}, ${components.length} components, CycloneDX ${bom.specVersion}`);
}
exit(failed ? 1 : 0);
