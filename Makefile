# Needs Python 3.11 or newer and make; everything else is set up by the targets themselves.

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
RELEASE_BIN := .state/release/bin
# One process more than cores, because tests wait more than they compute.
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

# Extras of `make run`, separated by commas: aws, gcp, cdk.
EXTRAS ?=

.DEFAULT_GOAL := help
.PHONY: help run test quick fresh check docs-check checkov fmt screenshot bench fuzz faults faults-local faults-aws faults-gcp soak image image-multi sbom dashboard chart lock e2e-aws e2e-gcp setup setup-run clean build audit workflows release-check release-assets image-push release-publish setup-release

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

run: setup-run ## start the debug server on localhost:10025, with EXTRAS=aws,gcp for outputs to a cloud
	@exec $(BIN)/smtp-relay serve

test: setup check ## set everything up, then lint, type-check and test
	@echo "» tests: pytest on $(JOBS) processes"
	$(BIN)/pytest -n $(JOBS) --dist loadgroup

quick: setup ## the unit and dialogue tests, in less than three minutes
	$(BIN)/pytest -n $(JOBS) --dist loadgroup tests/unit tests/dialogue

fresh: ## make run and make test on a fresh machine: a minimal Debian in a folder, for root on Debian
	@$(PYTHON) scripts/fresh.py

check: setup ## ruff, mypy, import-linter, the workflows
	@echo "» lint, formatting, types, import rules"
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory workflows

workflows: setup-release ## GitHub's workflows and forms: their syntax and their rights
	@echo "» workflows"
	$(RELEASE_BIN)/zizmor --offline --no-progress --quiet .github
	$(RELEASE_BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(RELEASE_BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(RELEASE_BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/fault.yml .github/ISSUE_TEMPLATE/wish.yml
	$(RELEASE_BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

docs-check: setup ## links, configurations and commands of the documentation
	$(BIN)/python scripts/configuration_reference.py --check
	$(BIN)/python scripts/iam_policies.py --check
	$(BIN)/python -m scripts.dashboard --check
	$(BIN)/python scripts/terraform_tables.py --check
	$(BIN)/python -m bench.cost --check
	$(BIN)/python scripts/chart.py --check
	$(BIN)/python scripts/docs_check.py

checkov: ## checkov on Terraform's modules, in an environment of its own (290 MB)
	@test -x .state/checkov/bin/checkov || { $(PYTHON) -m venv .state/checkov && .state/checkov/bin/pip install --quiet checkov==3.3.30; }
	.state/checkov/bin/checkov --config-file infra/terraform/checkov.yaml -d infra/terraform/aws
	.state/checkov/bin/checkov --config-file infra/terraform/checkov.yaml -d infra/terraform/gcp

fmt: setup ## format the code and fix what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

screenshot: setup ## pictures of the inbox's page in .state/screenshots, and the README's
	SCREENSHOTS=.state/screenshots $(BIN)/pytest tests/e2e/inbox/test_screenshots.py

bench: setup ## compare with go-smtp, stock aiosmtpd and others for an hour; writes bench/RESULTS.md
	$(BIN)/python -m bench.run --rounds 5 $(foreach one,relay relay2 sending go sink,--server $(one)) --out bench/RESULTS.md
	$(BIN)/python -m bench.run --quick --rounds 3 $(foreach one,relay stock haraka maildev mailpit,--server $(one)) --part peers --out bench/RESULTS.md
	$(BIN)/python -m bench.growth --rounds 5 --out bench/RESULTS.md
	$(BIN)/python -m bench.mailauth --rounds 5 --out bench/RESULTS.md

fuzz: setup ## ten minutes of random bytes and commands against a live server
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} $(BIN)/pytest tests/fuzz -s

faults: setup faults-local faults-aws faults-gcp ## faults under load, at home and on both clouds' stand-ins: nothing lost, torn or repeated

faults-local: setup ## 200 rounds of faults in local mode, 50,000 mails
	$(BIN)/python -m tests.faults.run --rounds $${ROUNDS:-200} --mails $${MAILS:-50000}

faults-aws: setup ## 50 rounds of faults on a local AWS, 5,000 mails
	$(BIN)/python -m tests.faults.run_clouds aws --rounds $${ROUNDS:-50} --mails $${MAILS:-5000}

faults-gcp: setup ## 50 rounds of faults on Google's stand-ins, 5,000 mails
	$(BIN)/python -m tests.faults.run_clouds gcp --rounds $${ROUNDS:-50} --mails $${MAILS:-5000}

soak: setup ## half of the top rate for half an hour (SOAK_SECONDS): memory, descriptors and threads stay flat
	$(BIN)/python -m tests.faults.soak --seconds $${SOAK_SECONDS:-1800}

image: ## build the listener's image: with docker or podman, else without a daemon
	@$(PYTHON) scripts/image.py

image-multi: ## the same for amd64 and arm64, as an OCI archive; RELEASE=1 refuses base images without digests
	@$(PYTHON) scripts/image.py --multi $(if $(RELEASE),--release)

sbom: setup ## the packages of the image with versions and licenses (CycloneDX), in .state/sbom.cdx.json
	@$(BIN)/python scripts/sbom.py --out .state/sbom.cdx.json

dashboard: setup ## renew Grafana's dashboard and the alert rules in infra/monitoring
	@$(BIN)/python -m scripts.dashboard

build: setup-release ## the wheel and the source distribution, in dist/
	@$(RELEASE_BIN)/python scripts/distributions.py

audit: setup-release ## known vulnerabilities of the locked packages; needs the network, and says so
	@$(RELEASE_BIN)/python scripts/release.py audit

release-check: ## the version is that of the tag, and CHANGELOG.md tells about it
	@$(PYTHON) scripts/release.py check

release-assets: ## what else a release offers, in dist/: schemas, documentation, checksums
	@$(PYTHON) scripts/release.py assets

image-push: ## push the image of image-multi; only GitHub's workflow does it
	@$(PYTHON) scripts/release.py push

release-publish: ## make GitHub's release of what is in dist/; only GitHub's workflow does it
	@$(PYTHON) scripts/release.py publish

chart: setup ## package the Helm chart into dist/
	@$(BIN)/python scripts/chart.py --package dist

lock: setup ## renew the locked versions of all packages, and the digests of base images
	@$(BIN)/python scripts/lock.py

e2e-aws: setup ## deploy on a local AWS with cdk and terraform, and send mails through
	$(BIN)/pytest tests/e2e/aws

e2e-gcp: setup ## deliver through Google's Pub/Sub emulator and a local Cloud Storage
	$(BIN)/pytest tests/e2e/gcp

setup:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with PYTHON=…"; exit 1; }
	@$(PYTHON) scripts/setup.py venv dev
	@$(PYTHON) scripts/setup.py packages

setup-run:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with PYTHON=…"; exit 1; }
	@$(PYTHON) scripts/setup.py run "$(EXTRAS)"

setup-release:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with PYTHON=…"; exit 1; }
	@$(PYTHON) scripts/setup.py release

clean: ## remove what the targets made
	rm -rf .venv .state .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
