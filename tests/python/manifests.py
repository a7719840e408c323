"""Holds Kubernetes' manifests against Kubernetes' own schemas, strictly: a key that is not known is
an error. Prints them as JSON Lines."""

import copy
import json
import sys

import kubernetes_validate
import yaml

# Sidecars (an init container with `restartPolicy: Always`) are on by default from here.
VERSIONS = ["1.29", "1.33", kubernetes_validate.latest_version()]

for path in sys.argv[1:]:
    with open(path) as file:
        for manifest in yaml.safe_load_all(file):
            for version in VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)
                # It can tell.
                wrong = copy.deepcopy(manifest)
                wrong["metadata"]["nmae"] = "x"
                try:
                    kubernetes_validate.validate(wrong, version, strict=True)
                except kubernetes_validate.ValidationError:
                    pass
                else:
                    sys.exit(f"{path}: a wrong key was not noticed")
            print(json.dumps(manifest))
