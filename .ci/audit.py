"""Read what pip-audit found: a line per vulnerability, and the counts. Exit 1 if there is any."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    packages = json.load(file)["dependencies"]
found = [(it, hole) for it in packages for hole in it.get("vulns", ())]
for package, hole in found:
    mended = ", ".join(hole["fix_versions"]) or "no version yet"
    print(f"{package['name']} {package['version']}: {hole['id']}, mended in {mended}")
unknown = sum("skip_reason" in it for it in packages)
print(
    f"lexlip: {len(packages) - unknown} packages audited, {len(found)} known vulnerabilities"
    + (f"; the registry could not be asked about {unknown} more" if unknown else "")
)
sys.exit(bool(found))
