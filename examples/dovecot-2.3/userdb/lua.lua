-- Where users are kept is up to you. doveadm pw makes the passwords, openssl rand -base64 24 the secrets.
local users = {
  -- The password of the login opens the key. Delivery knows none, and needs none once there is a key.
  jane = { password = "{PLAIN}of-the-login", home = "/srv/mail/jane" },
  -- A random secret opens it, whatever the login is. Delivery and doveadm have it, too.
  ann = { password = "{PLAIN}of-the-login", home = "/srv/mail/ann", secret = "lNb2Ph8JX1xCRbSjC2t9w4vXvmKb0oLk" },
  -- Not encrypted: the user hasn't asked for it yet.
  pat = { password = "{PLAIN}of-the-login", home = "/srv/mail/pat", plain = true },
}

function auth_password_verify(req, password)
  local user = users[req.user]
  if not user then
    return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, ""
  end
  if req:password_verify(user.password, password) <= 0 then
    return dovecot.auth.PASSDB_RESULT_PASSWORD_MISMATCH, ""
  end
  return dovecot.auth.PASSDB_RESULT_OK, { userdb_mail_crypt_private_password = user.secret or password }
end

function auth_passdb_lookup(req)
  return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, ""
end

function auth_userdb_lookup(req)
  local user = users[req.user]
  if not user then
    return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, ""
  end
  local fields = { uid = "5000", gid = "5000", home = user.home }
  if user.secret then
    fields.mail_crypt_private_password = user.secret
  end
  if user.plain then
    fields.mail_crypt_save_version = "0"
  end
  return dovecot.auth.USERDB_RESULT_OK, fields
end

function auth_userdb_iterate()
  local names = {}
  for name in pairs(users) do
    names[#names + 1] = name
  end
  return names
end
