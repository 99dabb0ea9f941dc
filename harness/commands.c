#include "harness/commands.h"

int dsb_command_list(const dsb_command **out) {
#define COMMAND_ROW(name, help) { #name, help, dsb_cmd_##name },
    static const dsb_command k_commands[] = { DSB_COMMANDS(COMMAND_ROW) };
#undef COMMAND_ROW
    *out = k_commands;
    return (int)(sizeof k_commands / sizeof *k_commands);
}
