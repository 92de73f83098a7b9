-- doveadm pw makes the passwords, openssl rand -base64 24 the secrets.
CREATE TABLE users (
  userid TEXT PRIMARY KEY,
  password TEXT NOT NULL,
  uid INTEGER NOT NULL,
  gid INTEGER NOT NULL,
  home TEXT NOT NULL,
  mail_secret TEXT,
  encrypted INTEGER NOT NULL DEFAULT 1
);
-- The password of the login opens the key. Delivery knows none, and needs none once there is a key.
INSERT INTO users VALUES ('jane', '{PLAIN}of-the-login', 5000, 5000, '/srv/mail/jane', NULL, 1);
-- A random secret opens it, whatever the login is. Delivery and doveadm have it, too.
INSERT INTO users VALUES ('ann', '{PLAIN}of-the-login', 5000, 5000, '/srv/mail/ann', 'lNb2Ph8JX1xCRbSjC2t9w4vXvmKb0oLk', 1);
-- Not encrypted: the user hasn't asked for it yet.
INSERT INTO users VALUES ('pat', '{PLAIN}of-the-login', 5000, 5000, '/srv/mail/pat', NULL, 0);
