/* Dovecot 2.3 keeps a command's parameters twice: as it parsed them, and as the arguments that it sends
   to the server that may do the work. 2.4 makes the latter from the former. */

#include "compat.h"
#include "array.h"
#include "doveadm-mail.h"

static bool
compat_doveadm_parse_arg(struct doveadm_mail_cmd_context *ctx ATTR_UNUSED,
			 int c ATTR_UNUSED)
{
	/* they are looked up by their names when all of them are there */
	return TRUE;
}

void compat_doveadm_cmd_init(struct doveadm_mail_cmd_context *ctx,
			     const char *getopt_args)
{
	ctx->getopt_args = getopt_args;
	ctx->v.parse_arg = compat_doveadm_parse_arg;
}

static void
compat_doveadm_add_option(const struct doveadm_cmd_param *param, pool_t pool,
			  ARRAY_TYPE(const_string) *args)
{
	const char *value = param->type == CMD_PARAM_STR ?
		param->value.v_string : NULL;
	const char *option;

	/* the way to the server, and what goes there on its own */
	if (param->short_opt == '\0' || param->short_opt == 'S')
		return;
	/* which users these are, the server needn't know */
	if (param->type == CMD_PARAM_ISTREAM)
		value = "";
	option = p_strdup_printf(pool, "-%c", param->short_opt);
	array_push_back(args, &option);
	if (value != NULL)
		array_push_back(args, &value);
}

void compat_doveadm_params_changed(struct doveadm_mail_cmd_context *ctx)
{
	const struct doveadm_cmd_param *param = ctx->cctx->argv;
	const char *const *positional = ctx->args, *dashes = "--";
	ARRAY_TYPE(const_string) args;
	unsigned int count;
	int i;

	p_array_init(&args, ctx->pool, 16);
	for (i = 0; i < ctx->cctx->argc; i++, param++) {
		if (param->value_set &&
		    (param->flags & CMD_PARAM_FLAG_POSITIONAL) == 0)
			compat_doveadm_add_option(param, ctx->pool, &args);
	}
	array_push_back(&args, &dashes);
	count = array_count(&args);
	for (; *positional != NULL; positional++)
		array_push_back(&args, positional);
	array_append_zero(&args);
	ctx->full_args = array_front(&args);
	ctx->args = array_idx(&args, count);
}
