# mail_crypt for Dovecot: build, check, test, try, install.  `make help` lists the targets.
#
# One Rust library (the core) holds all logic; each Dovecot module is a small .so of C, linked against it.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# ---- What a packager may set -------------------------------------------------------------------

DESTDIR ?=
# Dovecot's description of itself (dovecot-config); found without being told in the usual places.
ifdef DOVECOT_CONFIG
export DOVECOT_CONFIG
endif
# $(1): a command that scripts/lib.sh knows. Up to make 4.3, $(shell) doesn't see what make's command line has set.
lib = $(shell export DOVECOT_CONFIG='$(DOVECOT_CONFIG)' CARGO_TARGET_DIR='$(CARGO_TARGET_DIR)'; . scripts/lib.sh && $(1))
# Empty where Dovecot's development files aren't there yet.
DOVECOT_CONFIG_FILE := $(call lib,dovecot_config_file)
config = $(if $(DOVECOT_CONFIG_FILE),$(call lib,dovecot_config $(1)))
# The core's folder on the installed system: beside Dovecot's own, never in the folder of modules that it scans.
PKGLIBDIR := $(call config,dovecot_pkglibdir)
COREDIR ?= $(if $(PKGLIBDIR),$(abspath $(PKGLIBDIR)/..)/dovecot-mail-crypt)
MODULEDIR ?= $(call config,dovecot_moduledir)
# Where the list of what was installed lies, for uninstall, which needs nothing else.
STATEDIR ?= /var/lib/dovecot-mail-crypt
# The offline tool and the manual pages: what is in /usr/local stands before the packaged pages.
BINDIR ?= /usr/local/bin
MANDIR ?= /usr/local/share/man
CARGO ?= scripts/cargo
CARGO_BUILD_FLAGS ?= --locked
PYTHON ?= /usr/bin/python3
# DEPS=no: never call apt-get for what is missing.

# Which Dovecot's headers these are, "2.3" or "2.4"; empty without any.
DOVECOT_LINE := $(call lib,dovecot_line)

# ---- The modules -------------------------------------------------------------------------------

# Where each module lies below Dovecot's module folder, and the sources in c-shim/ that it is made of: a folder for each
# kind of module, and common/ for what more than one of them takes.
# What is not in this table doesn't exist yet: the packaged file of that name is taken out, not mixed in.
MODULES :=

# What is there for one release line only: 2.4 has all settings in one interface, and one fs driver; 2.3 tells two
# of them everything in a string, and keeps a copy of doveadm's arguments.
ifeq ($(DOVECOT_LINE),2.4)
settings := common/crypt-settings common/crypt-settings-own common/own-settings
else
settings := common/plugin-settings
doveadm_args := doveadm/doveadm-args
endif
streams := common/istream-lent common/istream-mail-crypt common/ostream-mail-crypt
convert := convert/mail-crypt-convert $(addprefix convert/mail-crypt-convert-,folder file swap maildir dbox sdbox mdbox mdbox-file mdbox-map mdbox-split) $(streams)

# $(1) file, $(2) sources without .c
define module
MODULES += $(1)
SOURCES_$(1) := $(2)
endef

ifeq ($(DOVECOT_LINE),2.4)
$(eval $(call module,settings/libmail_crypt_settings.so,settings/mail-crypt-settings common/own-settings))
endif
$(eval $(call module,lib05_mail_crypt_acl_plugin.so,$(addprefix acl/,mail-crypt-acl-plugin mail-crypt-acl-sharee)))
$(eval $(call module,lib10_mail_crypt_plugin.so,$(addprefix mail/,mail-crypt-plugin mail-crypt-mail mail-crypt-plain mail-crypt-cache mail-crypt-attachment mail-crypt-unpack mail-crypt-binary mail-crypt-save mail-crypt-copy mail-crypt-guid istream-spool spool-cache) $(streams) $(settings)))
$(eval $(call module,doveadm/libdoveadm_mail_crypt_plugin.so,$(addprefix doveadm/,doveadm-mail-crypt doveadm-mail-crypt-input doveadm-mail-crypt-secrets doveadm-mail-crypt-run doveadm-mail-crypt-scan doveadm-mail-crypt-check doveadm-mail-crypt-check-mails doveadm-mail-crypt-common) $(convert) $(doveadm_args)))
fs := fs/fs-crypt-common $(streams) $(settings)
ifeq ($(DOVECOT_LINE),2.4)
$(eval $(call module,libfs_crypt.so,fs/fs-crypt-settings $(fs)))
else
$(eval $(call module,libfs_crypt.so,fs/fs-crypt fs/fs-crypt-args $(fs)))
$(eval $(call module,libfs_mail_crypt.so,fs/fs-mail-crypt fs/fs-crypt-args $(fs)))
endif

# ---- Tools and flags ---------------------------------------------------------------------------

# Dovecot's own flags without link-time optimization, which nothing this small gains from. Its headers
# come in as system headers: their warnings are not ours to fix.
shim_cflags := $(filter-out -flto% -ffat-lto-objects,$(call config,DOVECOT_CFLAGS)) \
	-fPIC -fvisibility=hidden -DHAVE_CONFIG_H -Wall -Wextra -Iinclude -Ic-shim/common -Ic-shim/mail -Ic-shim/acl -Ic-shim/doveadm -Ic-shim/convert \
	-isystem $(call config,dovecot_pkgincludedir) \
	$(CPPFLAGS) $(CFLAGS)

# Each Dovecot has folders of its own, and so has each set of flags: what was built for one is never linked, staged or
# installed for another. File times don't tell, since packages bring old ones. The last whole build for a Dovecot
# is `built` in its folder.
DOVECOT_ID := $(call lib,dovecot_id)
FLAGS_ID := $(call lib,short_hash <<<'$(subst ','"'"',$(shell $(CC) --version 2>&1) $(shim_cflags) $(LDFLAGS) $(COREDIR))')
BUILD := build/$(DOVECOT_ID)/$(FLAGS_ID)
TARGET := $(call lib,cargo_target)
TOOL_TARGET := $(call lib,cargo_target tool)
# What gets installed: the last build, or the one whose flags are given.
given = $(filter command,$(origin CC) $(origin CFLAGS) $(origin CPPFLAGS) $(origin LDFLAGS) $(origin COREDIR))
BUILT = $(if $(given),$(BUILD),build/$(DOVECOT_ID)/built)

CORE := $(BUILD)/libmail_crypt_core.so
SONAME := libmail_crypt_core.so.0
STAGE := $(CURDIR)/$(BUILD)/stage
STAGED_CORE := mail-crypt-core
MANPAGES = $(patsubst man/%.scd,$(BUILD)/man/%,$(wildcard man/*.scd))

comma := ,
# $(1): the module, $(2): the folder in which it finds the core. What every doveconf loads has none: without it no
# Dovecot would start.
shim_ldflags = -shared -Wl,-z,relro,-z,now $(LDFLAGS) $(if $(filter settings/%,$(1)),, \
	-Wl,--enable-new-dtags -Wl,-rpath,$(2) -Wl,--no-as-needed $(CORE))

.PHONY: all bench bench-chart bench-count bench-micro bench-table build build-folder built chaos check check-sources clean core deb deb-twice demo demo-stop dist docker-bench docker-chaos docker-deb docker-example docker-memcheck docker-scenarios docker-table docker-test docker-upgrade fuzz header help install install-files man memcheck modules sbom settings stage stage-folder staged test tests test-deb test-install tool uninstall
all: build

# make asks for Dovecot's flags, line and folders when it starts, so what needs them is left to a make of its own, after
# what was missing has been installed.

## build the core, the modules, the offline tool and the manual pages
build:
	@scripts/ensure-deps.sh build
	@$(MAKE) --no-print-directory built

built: modules tool man
	@ln -sfn $(FLAGS_ID) build/$(DOVECOT_ID)/built

## build-folder say where it is built
build-folder:
	@echo $(CURDIR)/$(BUILD)

modules: core
	@$(MAKE) --no-print-directory $(addprefix $(BUILD)/modules/,$(MODULES))

# $(1) from, $(2) to: copied only if it is another
copy = @mkdir -p $(dir $(2)) && { cmp -s $(1) $(2) || install -m 755 $(1) $(2); }

# It needs no Dovecot, so an upgrade leaves it as it is.
## tool build the offline tool
tool:
	$(CARGO) build --release $(CARGO_BUILD_FLAGS) --target-dir $(TOOL_TARGET) --no-default-features --features tool --bin mail-crypt
	$(call copy,$(TOOL_TARGET)/release/mail-crypt,$(BUILD)/bin/mail-crypt)

# The first line asks for tbl, which draws the tables.
man: $(MANPAGES)
$(BUILD)/man/%: man/%.scd
	@mkdir -p $(@D)
	{ echo "'\\\" t"; scdoc <$<; } >$@

core:
	@[ -n "$(DOVECOT_CONFIG_FILE)" ] || { echo "error: no dovecot-config: install dovecot-dev, or set DOVECOT_CONFIG to the file" >&2; exit 1; }
	$(CARGO) build --release $(CARGO_BUILD_FLAGS) --target-dir $(TARGET)
	$(call copy,$(TARGET)/release/libmail_crypt_core.so,$(CORE))

$(BUILD)/obj/%.o: c-shim/%.c
	@mkdir -p $(@D)
	$(CC) $(shim_cflags) -MMD -MP -c -o $@ $<
-include $(wildcard $(BUILD)/obj/*/*.d)

# The same objects linked twice. The installed modules name the core's folder. A stage gets mounted, copied and
# carried into containers, so its modules find the core relative to themselves, in a folder that Dovecot doesn't scan.
define module_rules
$(BUILD)/modules/$(1): $(SOURCES_$(1):%=$(BUILD)/obj/%.o) Makefile
	@mkdir -p $$(@D)
	$$(CC) -o $$@ $$(filter %.o,$$^) $$(call shim_ldflags,$(1),$$(COREDIR))
$(BUILD)/staged/$(1): $(SOURCES_$(1):%=$(BUILD)/obj/%.o) Makefile
	@mkdir -p $$(@D)
	$$(CC) -o $$@ $$(filter %.o,$$^) $$(call shim_ldflags,$(1),'$$$$ORIGIN/$(if $(findstring /,$(1)),../)$(STAGED_CORE)')
endef
$(foreach m,$(MODULES),$(eval $(call module_rules,$(m))))

# Programs that drive the stream classes for a test, run where the staged core is.
stream_objects := $(streams:%=$(BUILD)/obj/%.o)
$(BUILD)/tests/%: tests/dovecot/streams/%.c $(stream_objects)
	@mkdir -p $(@D)
	$(CC) $(shim_cflags) -o $@ $< $(stream_objects) $(CORE) -ldovecot-storage -ldovecot \
		$(foreach flag,-L -Wl$(comma)-rpath$(comma),$(flag)$(PKGLIBDIR))

## stage a complete module folder with our modules in it, for a private Dovecot; prints its path
stage:
	@scripts/ensure-deps.sh build
	@$(MAKE) --no-print-directory core >&2
	@$(MAKE) --no-print-directory staged >&2
	@$(MAKE) --no-print-directory stage-folder

staged: $(addprefix $(BUILD)/staged/,$(MODULES))

stage-folder:
	@MODULES="$(MODULES)" CORE="$(CORE)" STAGED=$(STAGED_CORE)/$(SONAME) MODULEDIR="$(MODULEDIR)" scripts/stage.sh $(BUILD)/staged "$(STAGE)"

## check formatting, lints, docs, warnings, the header, the rules of the house
check:
	@scripts/ensure-deps.sh check
	@$(MAKE) --no-print-directory check-sources

check-sources:
	@CARGO="$(CARGO)" CARGO_TARGET_DIR="$(TARGET)" CC="$(CC)" SHIM_CFLAGS='$(shim_cflags)' \
		SHIM_SOURCES="$(sort $(foreach m,$(MODULES),$(SOURCES_$(m):%=c-shim/%.c)))" scripts/check.sh

## settings write docs/settings.md, and the names in mail-crypt-settings(7), anew
settings:
	@MAIL_CRYPT_WRITE_DOCS=1 $(CARGO) test --quiet --locked --no-default-features --lib store::names::manual

## header write include/mail_crypt_core.h anew from the Rust sources
header: core
	@CARGO="$(CARGO)" CARGO_TARGET_DIR="$(TARGET)" scripts/header.sh write

## test every test: the pure part, the boundary, and against a real, private Dovecot
test:
	@scripts/ensure-deps.sh test
	@$(MAKE) --no-print-directory stage tool
	@$(MAKE) --no-print-directory tests

tests:
	@CARGO="$(CARGO)" CARGO_TARGET_DIR="$(TARGET)" PYTHON="$(PYTHON)" scripts/run-tests.sh

BENCH_SIZES := ROUNDS MAILS LARGE MANY COLD FOLDERS ROWS SIDES

## bench measure no plugin, the packaged one and ours side by side (ROUNDS=7 MAILS=500 LARGE=50 MANY=10000 COLD=200 ROWS=.. JUDGE=no)
bench:
	@scripts/ensure-deps.sh bench
	@$(MAKE) --no-print-directory stage
	@$(PYTHON) tests/bench/bench.py $(foreach name,$(BENCH_SIZES),$(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) $($(name)))) $(if $(filter no,$(JUDGE)),--no-judge)

## bench-table put what bench measured last into docs/performance.md (FROM=build/docker/trixie.bench.md TABLE=bench-table-debian-13)
bench-table:
	@scripts/into.py docs/performance.md $(or $(TABLE),bench-table) <$(or $(FROM),build/bench/bench.md)

## bench-chart draw what bench measured last, into docs/performance.svg (FROM=build/docker/trixie.bench.json)
bench-chart:
	@scripts/ensure-deps.sh chart
	@$(PYTHON) tests/bench/chart.py $(or $(FROM),build/bench/bench.json) >build/performance.svg
	@mv build/performance.svg docs/performance.svg

## bench-micro times of the core's parts alone, next to those of libcrypto (SECONDS=2 ONLY=.., a regular expression)
bench-micro:
	@scripts/ensure-deps.sh bench-micro
	@CARGO="$(CARGO)" CARGO_TARGET_DIR="$(TARGET)" $(PYTHON) tests/bench/micro.py $(if $(SECONDS),--seconds $(SECONDS)) $(if $(ONLY),--only '$(ONLY)')

## bench-count the instructions of no plugin, the packaged one and ours, by valgrind (MAILS=30 LARGE=10 RUNS=2 TOP=5 SIDES=..)
bench-count:
	@scripts/ensure-deps.sh bench-count
	@$(MAKE) --no-print-directory stage
	@$(PYTHON) tests/bench/count.py $(foreach name,MAILS LARGE RUNS TOP SIDES,$(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) $($(name))))

## memcheck imap, lmtp and doveadm under valgrind, in short sessions: no memory is used wrongly (VALGRIND_ARGS=--track-origins=yes)
memcheck:
	@scripts/ensure-deps.sh memcheck
	@$(MAKE) --no-print-directory stage
	@VALGRIND_ARGS="$(VALGRIND_ARGS)" $(PYTHON) tests/memcheck/memcheck.py

CHAOS_SIZES := SECONDS PLUGIN SEED FORMATS KILL FULL REBUILD CLIENTS USERS
# Lists get commas, so that each is one word.
space := $() $()
chaos_size = $(if $($(1)),$(2)$(subst $(space),$(comma),$(strip $($(1)))))

## chaos kill processes, fill the disk, delete indexes: is mail lost that isn't without a plugin? (SECONDS=60 SEED=1 PLUGIN=.. FORMATS=.. KILL=5 FULL=yes)
chaos:
	@scripts/ensure-deps.sh chaos
	@$(MAKE) --no-print-directory stage
	@$(PYTHON) tests/chaos/chaos.py $(foreach name,$(CHAOS_SIZES),$(call chaos_size,$(name),--$(shell echo $(name) | tr A-Z a-z)=))

## fuzz look for input that breaks a promise, SECONDS=60 for each target (TARGETS="spool dict": only these)
fuzz:
	@scripts/ensure-deps.sh fuzz
	@SECONDS_EACH="$(SECONDS)" scripts/fuzz.sh $(TARGETS)

## test-install installs and uninstalls for real, in a private copy of the system's folders
test-install:
	@scripts/ensure-deps.sh build
	@scripts/test-install.sh

## dist the sources with all crates, which build without a network, as a tar file in build/dist, and their SBOM
dist:
	@scripts/dist.sh
	@$(MAKE) --no-print-directory sbom

## sbom what the core and the tool are made of, as CycloneDX JSON in build/dist
sbom:
	@mkdir -p build/dist
	@file=build/dist/dovecot-mail-crypt-$(call lib,crate_version).cdx.json && \
		$(PYTHON) scripts/sbom.py >$$file.new && mv $$file.new $$file && echo "==> $$file"

## deb the Debian package for the Dovecot at hand, into build/deb (LINE=trixie: for that line's, in a container)
deb:
ifeq ($(LINE),)
	@scripts/ensure-deps.sh deb
	@scripts/deb.sh
else
	@scripts/ensure-deps.sh docker
	@tests/docker/run.sh --deb $(LINE)
endif

## test-deb what make deb has built, installed and taken out again for real, in a private copy of the system's folders
test-deb:
	@scripts/ensure-deps.sh deb
	@scripts/test-deb.sh

## deb-twice builds the package twice, in different folders, and compares
deb-twice:
	@scripts/ensure-deps.sh deb
	@scripts/deb-twice.sh

## docker-test the same tests against every Dovecot from 2.3.19 to 2.4, in containers (LINE=trixie: one of them)
docker-test:
	@scripts/ensure-deps.sh docker
	@tests/docker/run.sh $(LINE)

## docker-scenarios several hosts: replication with keys in PostgreSQL and Redis, and the way from 2.3 to 2.4 and back
docker-scenarios:
	@scripts/ensure-deps.sh docker
	@LINE="$(LINE)" tests/docker/scenarios/run.sh

## docker-upgrade Debian 12, its backports and 13 one after the other under an installed plugin, in a container
docker-upgrade:
	@scripts/ensure-deps.sh docker
	@tests/docker/upgrade/run.sh

## docker-deb the packages of Debian 12 and 13, built, and put through every transition by apt and dpkg (LINE=trixie: one)
docker-deb:
	@scripts/ensure-deps.sh docker
	@tests/docker/deb/run.sh $(LINE)

## docker-example examples/docker, command by command as its README.md says
docker-example:
	@scripts/ensure-deps.sh docker
	@tests/docker/example.sh

## docker-bench bench on another Dovecot and OpenSSL, in a container (LINE=trixie, and what bench takes)
docker-bench:
	@scripts/ensure-deps.sh docker
	@BENCH_ARGS="$(foreach name,$(BENCH_SIZES) JUDGE,$(if $($(name)),$(name)=$($(name))))" tests/docker/run.sh --bench $(or $(LINE),trixie)

## docker-memcheck memcheck on another Dovecot, in a container (LINE=sid)
docker-memcheck:
	@scripts/ensure-deps.sh docker
	@VALGRIND_ARGS="$(VALGRIND_ARGS)" tests/docker/run.sh --memcheck $(or $(LINE),sid)

## docker-chaos chaos on another Dovecot, in a container (LINE=trixie, and what chaos takes)
docker-chaos:
	@scripts/ensure-deps.sh docker
	@CHAOS_ARGS="$(foreach name,$(CHAOS_SIZES),$(call chaos_size,$(name),$(name)=))" tests/docker/run.sh --chaos $(or $(LINE),trixie)

## docker-table put the table of what docker-test found last into docs/install.md
docker-table:
	@$(PYTHON) tests/docker/table.py build/docker | scripts/into.py docs/install.md docker-table

## demo a private Dovecot on loopback, one mail, and what of it is on disk (KEEP=1 leaves it running)
demo:
	@scripts/ensure-deps.sh demo
	@$(MAKE) --no-print-directory stage
	@$(PYTHON) scripts/demo.py $(if $(KEEP),--keep)

## demo-stop stop a demo that was left running
demo-stop:
	@$(PYTHON) scripts/demo.py --stop

## install into the installed Dovecot, the packaged mail_crypt put aside; honours DESTDIR
install:
	@test -n "$(MODULEDIR)" -a -e $(BUILT)/bin/mail-crypt || $(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory install-files

install-files:
	@MODULES="$(MODULES)" BUILT="$(BUILT)" SONAME=$(SONAME) DESTDIR="$(DESTDIR)" STATEDIR="$(STATEDIR)" \
		COREDIR="$(COREDIR)" PKGLIBDIR="$(PKGLIBDIR)" MODULEDIR="$(MODULEDIR)" BINDIR="$(BINDIR)" MANDIR="$(MANDIR)" \
		scripts/install.sh install

## uninstall take ours out again and bring the packaged mail_crypt back
uninstall:
	@DESTDIR="$(DESTDIR)" STATEDIR="$(STATEDIR)" COREDIR="$(COREDIR)" MODULEDIR="$(MODULEDIR)" scripts/install.sh uninstall

## clean remove build/ and what cargo made
clean:
	rm -rf build
	$(CARGO) clean --target-dir $(or $(CARGO_TARGET_DIR),target)

## help this list
help:
	@sed -n 's/^## \([a-z-]*\) /\1\t/p' Makefile | while IFS=$$'\t' read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done
