# dsbench: build, tests and the rest. `make help` lists the targets.
BUILD ?= build
CC ?= gcc
PKGS = jansson sqlite3 libpcre2-8 nettle
CFLAGS ?= -O2 -g
WARN = -Wall -Wextra -Wno-unused-parameter
CPPFLAGS += -I. -D_GNU_SOURCE $(shell pkg-config --cflags $(PKGS))
# -ffp-contract=off: results must not depend on which multiplications a compiler fuses.
ALLFLAGS = -std=gnu11 $(WARN) $(CFLAGS) -fopenmp -ffp-contract=off -MMD -MP
LIBS = $(shell pkg-config --libs $(PKGS)) -lm -ldl
ROOMS = base kernels quantizers engine datasets metrics db reports harness
SRC = $(foreach r,$(ROOMS),$(wildcard $(r)/*.c $(r)/*/*.c))
OBJ = $(SRC:%.c=$(BUILD)/obj/%.o)
LIBOBJ = $(filter-out $(BUILD)/obj/harness/main.o,$(OBJ))
TESTS = $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))

all: $(BUILD)/dsbench ## build build/dsbench

$(BUILD)/dsbench: $(OBJ)
	$(CC) $(ALLFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALLFLAGS) $(ISA_$(subst /,_,$(patsubst %/,%,$(dir $<)))) -c -o $@ $<

ISA_kernels_avx2 = -mavx2 -mfma -mf16c -O3

$(BUILD)/tests/%: tests/unit/%.c $(LIBOBJ)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALLFLAGS) -o $@ $< $(LIBOBJ) $(LIBS) -lcmocka

check: all $(TESTS) ## build and run every test
	@for t in $(TESTS); do $$t || exit 1; done

-include $(OBJ:.o=.d)
