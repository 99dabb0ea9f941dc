# dsbench: build, tests and the rest. `make help` lists the targets. Everything that is made lies under $(BUILD).
BUILD ?= build
VERSION = 0.1.0
CC = gcc
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
PKGS = jansson sqlite3 libpcre2-8 libutf8proc nettle lapacke
ROOMS = base kernels quantizers engine datasets metrics db reports harness
MODEL = models/dsmoe-tiny

# -Wno-psabi: vectors of 64 bytes are passed nowhere, all functions that take them are inlined.
WARN = -Wall -Wextra -Wno-unused-parameter -Wno-psabi $(if $(WERROR),-Werror)
CPPFLAGS += -I. -D_GNU_SOURCE $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
# -ffp-contract=off: results must not depend on which multiplications a compiler fuses.
ALLFLAGS = -std=gnu11 $(WARN) $(CFLAGS) -fopenmp -ffp-contract=off
LIBS = $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -ldl

# No float operation is expected to trap or to set errno: loops with a condition become vectors. Changes no result.
VECTOR = -O3 -fno-trapping-math -fno-math-errno
# One folder an instruction set; the folder's flags stand here and nowhere else. Folders of other machines are left out.
MACHINE := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
ISA_kernels_avx2 = -mavx2 -mfma -mf16c $(VECTOR)
ISA_kernels_avx512 = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c $(VECTOR)
ISA_kernels_amx = $(ISA_kernels_avx512) -mamx-tile -mamx-int8 -mamx-bf16
ISA_kernels_neon = -march=armv8.2-a+dotprod $(VECTOR)
# Encoders search: their loops are worth the compiler's effort.
ISA_quantizers = -O3
ONLY_x86_64 = kernels/avx2/% kernels/avx512/% kernels/amx/%
ONLY_aarch64 = kernels/neon/%
# Compilers that don't know AMX leave it out.
AMX := $(shell $(CC) -mamx-tile -mamx-int8 -mamx-bf16 -E -x c /dev/null >/dev/null 2>&1 && echo yes)
CPPFLAGS += $(if $(AMX),-DDSB_AMX)

SRC_ALL = $(foreach r,$(ROOMS),$(wildcard $(r)/*.c $(r)/*/*.c))
SRC = $(filter-out $(if $(AMX),,kernels/amx/%) $(foreach m,$(filter-out $(MACHINE),x86_64 aarch64),$(ONLY_$(m))),$(SRC_ALL))
OBJ = $(SRC:%.c=$(BUILD)/obj/%.o)
LIBOBJ = $(filter-out $(BUILD)/obj/harness/main.o,$(OBJ))
TESTS = $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
FUZZ = $(patsubst tests/fuzz/%.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
SIMULATIONS = $(patsubst tests/simulation/%.c,$(BUILD)/simulation/%,$(wildcard tests/simulation/*.c))
TEST_HELPERS = $(patsubst tests/system/%.c,$(BUILD)/tests/%,$(wildcard tests/system/*.c))

all: $(BUILD)/dsbench ## build build/dsbench

demo: all data ## the main job on the built-in model: every scheme, plots, report
	$(BUILD)/dsbench run --out $(BUILD)/demo

check: all tests data ## build and run every test; ends in "N passed, N failed"
	@sh tests/run.sh $(BUILD)

check-all: check lint simulate asan ubsan tsan machines ## check, lint, error rates of verdicts, the three sanitizers, other machines

simulate: $(SIMULATIONS) ## error rates of verdicts by simulation, the tables of docs/statistics.md
	@set -e; for s in $(SIMULATIONS); do echo "$$s"; $$s; done

bench: all data ## speed of formats and of products, beside what the machine can do
	$(BUILD)/dsbench bench --db $(BUILD)/bench.db
	$(BUILD)/dsbench bench --db $(BUILD)/bench.db --kernel gemm --shape 1408x2048x1,1408x2048x512

golden: all $(TEST_HELPERS) data ## write tests/golden/results.csv anew; review it with git diff
	@sh tests/golden/golden.sh $(BUILD) tests/golden/results.csv

data: ## fetch and verify the built-in texts
	@sh datasets/fetch.sh $(BUILD)/data

tests: $(TESTS) $(TEST_HELPERS)

# Sanitizers: the whole program and its unit tests in a build of their own.
asan: ## unit tests under AddressSanitizer and LeakSanitizer
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address" all tests
	@DSBENCH_DATA=$(BUILD)/data ASAN_OPTIONS=allocator_may_return_null=1 sh tests/run.sh $(BUILD)/asan unit

ubsan: ## unit tests under UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/ubsan CFLAGS="-O1 -g -fsanitize=undefined -fno-sanitize-recover=all" all tests
	@DSBENCH_DATA=$(BUILD)/data UBSAN_OPTIONS=print_stacktrace=1 sh tests/run.sh $(BUILD)/ubsan unit

# gcc's OpenMP is not instrumented and drowns the output in false alarms: clang, whose libarcher explains OpenMP to the sanitizer.
tsan: ## unit tests under ThreadSanitizer, 4 threads (needs clang and libomp-dev; says so if they are missing)
	@sh tests/tsan.sh $(BUILD) "$(MAKE)"

machines: all tests ## kernel tests and traces on SSE2, AVX2 and Arm processors under qemu-user (says what it needs)
	@sh tests/machines.sh $(BUILD) "$(MAKE)"

FUZZ_SECONDS ?= 20
fuzz: ## every parser under libFuzzer for FUZZ_SECONDS each (needs clang; says so if it is missing)
	@sh tests/fuzz/run.sh $(BUILD) "$(MAKE)" $(FUZZ_SECONDS)

lint: ## layering, headers, banned functions, file lengths, whitespace (installs nothing)
	@sh tests/lint/lint.sh "$(CC)" $(BUILD)

format: ## clang-format every C file in place (clang-format 14)
	clang-format -i $(foreach r,$(ROOMS) tests,$(wildcard $(r)/*.[ch] $(r)/*/*.[ch]))

# The CUDA plugin: device code for Ampere, Ada, Hopper and (where nvcc has it) Blackwell, and PTX for what comes. --fmad=false: as -ffp-contract=off.
NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc) nvcc)
CUDA_ARCH ?= 80 89 90a $(if $(findstring compute_100,$(shell $(NVCC) --list-gpu-arch 2>/dev/null)),100a)
CUDA_SRC = $(wildcard kernels/cuda/*.cu)
CUDA_OBJ = $(CUDA_SRC:%.cu=$(BUILD)/obj/%.cu.o)
NVCCFLAGS = -std=c++20 -O3 -lineinfo --fmad=false -I. -D_GNU_SOURCE -Xcompiler -fPIC,-fvisibility=hidden,-fopenmp,-Wall,-Wno-unused-parameter $(if $(WERROR),-Werror all-warnings) $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$(a),code=sm_$(a)) -gencode arch=compute_80,code=compute_80

cuda: all $(BUILD)/libdsbench_cuda.so ## build the CUDA plugin (needs nvcc, no GPU)

check-cuda: cuda tests $(BUILD)/experts_cuda ## the GPU against the CPU: rows, products, whole runs (needs a GPU)
	@$(BUILD)/experts_cuda check
	@DSBENCH_TEST_DEVICE=cuda sh tests/run.sh $(BUILD) unit test_kernels test_kernels_gemm test_kernels_rows test_device

SANITIZER ?= $(firstword $(shell command -v compute-sanitizer 2>/dev/null) $(wildcard /usr/local/cuda/bin/compute-sanitizer) compute-sanitizer)
SANITIZER_TESTS ?= test_kernels test_kernels_gemm test_kernels_rows test_kernels_attention test_device
check-cuda-sanitizer: cuda tests $(BUILD)/experts_cuda ## the same under compute-sanitizer: memory errors, and races in shared memory (needs a GPU)
	@for tool in memcheck racecheck; do \
	    echo "  $$tool"; \
	    for t in $(SANITIZER_TESTS); do \
	        DSBENCH_TEST_DEVICE=cuda DSBENCH_DATA=$(BUILD)/data $(SANITIZER) --tool $$tool --error-exitcode 9 --print-limit 20 $(BUILD)/tests/$$t >$(BUILD)/$$tool.log 2>&1 || { grep '=========' $(BUILD)/$$tool.log || tail -n 20 $(BUILD)/$$tool.log; exit 1; }; \
	        echo "    $$t: $$(grep 'SUMMARY' $(BUILD)/$$tool.log)"; \
	    done; \
	    $(SANITIZER) --tool $$tool --error-exitcode 9 --print-limit 20 $(BUILD)/experts_cuda check >$(BUILD)/$$tool.log 2>&1 || { grep '=========' $(BUILD)/$$tool.log; exit 1; }; \
	    echo "    experts: $$(grep 'SUMMARY' $(BUILD)/$$tool.log)"; \
	done

# What the plugin has of base/: the program's own copy is not seen from there.
CUDA_C = base/packed.c base/blocks.c base/ggml.c base/format.c
CUDA_OBJ += $(CUDA_C:%.c=$(BUILD)/obj/pic/%.o)
$(BUILD)/obj/pic/%.o: %.c $(wildcard base/*.h)
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CPPFLAGS) $(ALLFLAGS) -fPIC -fvisibility=hidden -c -o $@ $<

$(BUILD)/libdsbench_cuda.so: $(CUDA_OBJ)
	@echo "  LINK  $@"
	@$(NVCC) --cudart static -Xcompiler -fopenmp -shared -o $@ $^

$(BUILD)/experts_cuda: $(BUILD)/obj/tests/cuda/experts.cu.o $(CUDA_OBJ)
	@echo "  LINK  $@"
	@$(NVCC) --cudart static -Xcompiler -fopenmp -o $@ $^

$(BUILD)/obj/%.cu.o: %.cu $(wildcard kernels/cuda/*.cuh kernels/cuda/*.h) kernels/backend.h kernels/roofline.h kernels/portable/math.h kernels/portable/packed.h base/format.h base/blocks.h
	@command -v $(NVCC) >/dev/null || { echo "nvcc is not installed: the CUDA Toolkit is wanted (or make NVCC=/path/to/nvcc)" >&2; exit 2; }
	@mkdir -p $(@D)
	@echo "  NVCC  $<"
	@$(NVCC) $(NVCCFLAGS) -c -o $@ $<

sizes: all ## lines per room, size of the program, of the model, of the repository
	@for r in $(ROOMS) tests; do printf '%-12s %6d lines\n' $$r $$(cat $$(find $$r -name '*.[ch]') /dev/null | wc -l); done
	@size $(BUILD)/dsbench
	@du -sh $(MODEL) .git 2>/dev/null || true

ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
install: all data manual ## install program, built-in model, texts, man page and completion under PREFIX (/usr/local)
	install -D -m 755 $(BUILD)/dsbench $(DESTDIR)$(PREFIX)/bin/dsbench
	install -D -m 644 $(BUILD)/dsbench.1 $(DESTDIR)$(PREFIX)/share/man/man1/dsbench.1
	install -D -m 644 $(BUILD)/completion.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/dsbench
	install -D -m 644 $(BUILD)/completion.zsh $(DESTDIR)$(ZSHDIR)/_dsbench
	cd $(MODEL) && find . -type f | while read f; do install -D -m 644 "$$f" "$(DESTDIR)$(PREFIX)/share/dsbench/$(MODEL)/$$f" || exit 1; done
	for f in harness/suites/*.json; do install -D -m 644 "$$f" "$(DESTDIR)$(PREFIX)/share/dsbench/suites/$${f##*/}" || exit 1; done
	cd $(BUILD)/data && for f in *.txt; do install -D -m 644 "$$f" "$(DESTDIR)$(PREFIX)/share/dsbench/data/$$f" || exit 1; done

manual: all ## man page and completion, as the program's own tables have them
	@$(BUILD)/dsbench man >$(BUILD)/dsbench.1
	@for s in bash zsh; do $(BUILD)/dsbench completion $$s >$(BUILD)/completion.$$s || exit 1; done

deb: all data ## a Debian package of what `make install` installs, in the build folder
	@sh harness/deb.sh $(BUILD) "$(VERSION)" "$(MAKE)"

check-deb: deb ## the package in a bare Debian: installed, run, removed (wants root, debootstrap and the network)
	@sh tests/deb.sh $(BUILD)/dsbench_$(VERSION)_$$(dpkg --print-architecture).deb

clean: ## remove the build folder
	rm -rf $(BUILD)

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' Makefile

$(BUILD)/dsbench: $(OBJ)
	@echo "  LINK  $@"
	@$(CC) $(ALLFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/obj/%.o: %.c $(BUILD)/flags | needs
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CPPFLAGS) -I$(BUILD) $(ALLFLAGS) -MMD -MP $(ISA_$(subst /,_,$(patsubst %/,%,$(dir $<)))) -c -o $@ $<

# An archive, so that a test links what it uses.
$(BUILD)/libdsbench.a: $(LIBOBJ)
	@rm -f $@ && ar rcs $@ $^

$(BUILD)/tests/%: tests/unit/%.c $(BUILD)/libdsbench.a
	@mkdir -p $(@D)
	@echo "  TEST  $<"
	@$(CC) $(CPPFLAGS) $(ALLFLAGS) -MMD -MP -MF $@.d -MT $@ -o $@ $< $(BUILD)/libdsbench.a $(LIBS) -lcmocka

$(TEST_HELPERS): $(BUILD)/tests/%: tests/system/%.c $(BUILD)/libdsbench.a
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS) $(ALLFLAGS) -MMD -MP -MF $@.d -MT $@ -o $@ $< $(BUILD)/libdsbench.a $(LIBS)

$(SIMULATIONS): $(BUILD)/simulation/%: tests/simulation/%.c $(BUILD)/libdsbench.a
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS) $(ALLFLAGS) -MMD -MP -MF $@.d -MT $@ -o $@ $< $(BUILD)/libdsbench.a $(LIBS)

# Only by tests/fuzz/run.sh, with clang and the fuzzer's flags.
fuzz-programs: $(FUZZ)
$(FUZZ): $(BUILD)/%: tests/fuzz/%.c $(BUILD)/libdsbench.a
	@mkdir -p $(@D)
	@echo "  FUZZ  $<"
	@$(CC) $(CPPFLAGS) $(ALLFLAGS) -fsanitize=fuzzer -MMD -MP -MF $@.d -MT $@ -o $@ $< $(BUILD)/libdsbench.a $(LIBS)

# Rewritten only when they change: the compiler and its flags, so that another set of flags rebuilds; version and git state.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D); echo '$(CC) $(CPPFLAGS) $(ALLFLAGS)' >$@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BUILD)/version_stamp.h: FORCE
	@mkdir -p $(@D); sh harness/version_stamp.sh "$(VERSION)" "$(shell $(CC) --version | head -n 1)" >$@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BUILD)/obj/harness/version.o: $(BUILD)/version_stamp.h

# One clear line instead of a missing header.
needs:
	@command -v pkg-config >/dev/null || { echo "pkg-config is not installed: apt-get install pkg-config" >&2; exit 2; }
	@pkg-config --exists $(PKGS) || { echo "a library is missing (of $(PKGS)): apt-get install libjansson-dev libsqlite3-dev libpcre2-dev libutf8proc-dev nettle-dev liblapacke-dev" >&2; exit 2; }

FORCE:
.PHONY: all cuda check-cuda check-cuda-sanitizer demo check check-all bench golden data tests simulate asan ubsan tsan machines fuzz fuzz-programs lint format sizes install manual deb check-deb clean help needs FORCE
.DELETE_ON_ERROR:
-include $(OBJ:.o=.d) $(TESTS:=.d) $(TEST_HELPERS:=.d) $(SIMULATIONS:=.d) $(FUZZ:=.d)
