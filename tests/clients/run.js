// node run.js SCRIPT FUNCTION '[ARGUMENT, ...]' prints what the function returns, as JSON.
"use strict";

const [script, name, call] = process.argv.slice(2);

require(script)
  [name](...JSON.parse(call))
  .then((value) => process.stdout.write(JSON.stringify(value ?? null)))
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
