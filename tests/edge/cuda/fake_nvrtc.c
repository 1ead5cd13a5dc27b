// NVRTC, faked: "PTX" is the source behind the options it was given; a source with an 'error' fails.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct program { char *source, *ptx, *log; };
static int live;

int live_programs(void) { return live; }
const char *nvrtcGetErrorString(int code) { return code == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR"; }
int nvrtcCreateProgram(struct program **made, const char *source, const char *name, int headers,
                       const char **header, const char **names) {
    if (headers || header || names || strcmp(name, "kernel.cu")) return 1;
    if (strstr(source, "unwanted")) return 2;
    *made = calloc(1, sizeof **made);
    (*made)->source = strdup(source);
    ++live;
    return 0;
}
int nvrtcCompileProgram(struct program *program, int count, const char **options) {
    size_t size = strlen(program->source) + 1024;
    program->ptx = calloc(1, size);
    program->log = calloc(1, size);
    for (int i = 0; i < count; ++i) { strcat(program->ptx, options[i]); strcat(program->ptx, "\n"); }
    strcat(program->ptx, program->source);
    if (!strstr(program->source, "error")) return 0;
    sprintf(program->log, "kernel.cu(1): error: in %s", program->source);
    return 6;
}
int nvrtcGetProgramLogSize(struct program *program, size_t *size) { *size = strlen(program->log) + 1; return 0; }
int nvrtcGetProgramLog(struct program *program, char *log) { strcpy(log, program->log); return 0; }
int nvrtcGetPTXSize(struct program *program, size_t *size) { *size = strlen(program->ptx) + 1; return 0; }
int nvrtcGetPTX(struct program *program, char *ptx) { strcpy(ptx, program->ptx); return 0; }
int nvrtcDestroyProgram(struct program **program) {
    free((*program)->source); free((*program)->ptx); free((*program)->log); free(*program);
    *program = NULL;
    --live;
    return 0;
}
